package wire

import (
	"errors"
	"fmt"
	"math"
)

var errFileShort = errors.New("file ends before the part that was promised")

const (
	// copyBelow: pieces up to this length are copied together, longer ones get an entry of their
	// own. One copied write wins below 10 KiB a piece, and most small pieces are far below.
	copyBelow = 4 << 10
	scratch   = 16 << 10
	// maxPieces bounds the entries of one write; each refers to a reply that is not finished.
	maxPieces = 256
)

// outbox turns replies into writes: small pieces joined, large ones by reference, file parts by
// sendfile or through a pooled buffer. One goroutine at a time uses it.
type outbox struct {
	st         stream
	noSendfile bool

	pieces  [][]byte
	scratch []byte // small pieces that are not yet written; from the pool while in use
	joined  bool   // the last piece is the tail of scratch
}

// write sends a list of taken requests. It frees their frames first. After an error the
// connection is in the middle of a reply and must die.
func (o *outbox) write(list *Request) error {
	var err error
	for q := list; q != nil && err == nil; q = q.next {
		q.Release()
		if !q.silent {
			err = o.reply(q)
		}
	}
	if err == nil {
		err = o.flush(false)
	}
	clear(o.pieces)
	o.pieces = o.pieces[:0]
	if o.scratch != nil {
		PutBuffer(o.scratch)
		o.scratch, o.joined = nil, false
	}
	return err
}

func (o *outbox) reply(q *Request) error {
	size := q.resp.size()
	if size > math.MaxInt32-int64(len(q.header)) {
		return fmt.Errorf("reply to request %d (api key %d) has %d bytes", q.CorrelationID, q.Key, size)
	}
	if err := o.add(putReplyHeader(&q.header, q.CorrelationID, q.flexibleReply, int(size))); err != nil {
		return err
	}
	if err := o.add(q.resp.Body); err != nil {
		return err
	}
	for i := range q.resp.Parts {
		p := &q.resp.Parts[i]
		var err error
		if p.File != nil {
			err = o.file(p)
		} else {
			err = o.add(p.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add appends bytes, which must stay as they are until the next flush.
func (o *outbox) add(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if len(o.pieces) >= maxPieces || len(b) <= copyBelow && o.scratch != nil && len(o.scratch)+len(b) > scratch {
		if err := o.flush(true); err != nil {
			return err
		}
	}
	if len(b) > copyBelow {
		o.pieces, o.joined = append(o.pieces, b), false
		return nil
	}
	if o.scratch == nil {
		o.scratch = GetBuffer(scratch)[:0]
	}
	at := len(o.scratch)
	o.scratch = append(o.scratch, b...)
	if o.joined {
		last := &o.pieces[len(o.pieces)-1]
		*last = (*last)[:len(*last)+len(b)]
		return nil
	}
	o.pieces, o.joined = append(o.pieces, o.scratch[at:]), true
	return nil
}

// flush writes what was added. more says that something follows at once.
func (o *outbox) flush(more bool) error {
	if len(o.pieces) == 0 {
		return nil
	}
	err := o.st.writev(o.pieces, more)
	clear(o.pieces)
	o.pieces, o.joined = o.pieces[:0], false
	o.scratch = o.scratch[:0]
	return err
}

// file sends a file part: by sendfile from SendfileMin bytes, else through memory.
func (o *outbox) file(p *Part) error {
	if p.Len >= SendfileMin && !o.noSendfile {
		if fd, ok := p.File.FD(); ok {
			if err := o.flush(true); err != nil {
				return err
			}
			done, err := o.st.sendfile(fd, p.Pos, p.Len)
			if done || err != nil {
				return err
			}
			o.noSendfile = true // this file system or stream has none
		}
	}
	buf := GetBuffer(int(min(p.Len, copyChunk)))
	defer PutBuffer(buf)
	for pos, left := p.Pos, p.Len; left > 0; {
		n := int(min(left, int64(len(buf))))
		if read, err := p.File.ReadAt(buf[:n], pos); read < n {
			return fmt.Errorf("read file part at %d: %w", pos+int64(read), errors.Join(errFileShort, err))
		}
		pos, left = pos+int64(n), left-int64(n)
		if err := o.add(buf[:n]); err != nil {
			return err
		}
		if n > copyBelow {
			if err := o.flush(left > 0); err != nil {
				return err
			}
		}
	}
	return nil
}
