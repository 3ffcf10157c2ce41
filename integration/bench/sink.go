package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The sink is the raw limit of produce: the least that a process can do which receives batches,
// checks their CRC, writes them to one file a partition and acknowledges after fdatasync. It has no
// offsets, no index and no readers.
type sink struct {
	parts []*sinkPart
	topic string
	fresh bool
	limit int64

	mu      sync.Mutex
	wake    *sync.Cond
	pending []sinkAck
}

type sinkPart struct {
	mu    sync.Mutex
	f     *os.File
	dir   string
	n     int
	pos   int64
	dirty bool // guarded by sink.mu
}

// sinkAck is a response that waits for the next fdatasync.
type sinkAck struct {
	nc   net.Conn
	resp []byte
}

func sinkCmd(fs *flag.FlagSet) func() (obj, error) {
	listen := fs.String("listen", "127.0.0.1:0", "host:port")
	dir := fs.String("dir", "", "directory for the files")
	parts := fs.Int("partitions", 6, "partitions of the one topic")
	fresh := fs.Bool("fresh", false, "write new files instead of ones written before")
	limit := sizeVar(fs, "file-bytes", 64<<20, "bytes of a file")
	return func() (obj, error) {
		s := &sink{topic: topic, fresh: *fresh, limit: int64(*limit)}
		s.wake = sync.NewCond(&s.mu)
		zeros := make([]byte, 1<<20)
		for i := range *parts {
			p := &sinkPart{dir: filepath.Join(*dir, fmt.Sprint("part-", i))}
			if err := os.MkdirAll(p.dir, 0o755); err != nil {
				return nil, err
			}
			if err := p.next(); err != nil {
				return nil, err
			}
			for at := int64(0); !s.fresh && at < s.limit; at += int64(len(zeros)) {
				if _, err := p.f.WriteAt(zeros, at); err != nil {
					return nil, err
				}
			}
			if err := p.f.Sync(); err != nil {
				return nil, err
			}
			s.parts = append(s.parts, p)
		}
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return nil, err
		}
		go s.flush()
		for {
			nc, err := l.Accept()
			if err != nil {
				return nil, err
			}
			go func() {
				defer nc.Close()
				if err := s.serve(nc); !errors.Is(err, io.EOF) {
					fmt.Fprintln(os.Stderr, "sink:", err)
				}
			}()
		}
	}
}

func (p *sinkPart) next() (err error) {
	if p.f != nil { // a new file after a full one; the old one is kept, as a log would
		_ = p.f.Close()
	}
	p.n, p.pos = p.n+1, 0
	p.f, err = os.Create(filepath.Join(p.dir, fmt.Sprint(p.n)))
	return err
}

// serve answers requests until the connection ends, and says why it did.
func (s *sink) serve(nc net.Conn) error {
	buf := make([]byte, 2<<20)
	for {
		if _, err := io.ReadFull(nc, buf[:4]); err != nil {
			return err
		}
		n := int(be.Uint32(buf))
		if n > len(buf) || n < 14 {
			return fmt.Errorf("frame of %d bytes", n)
		}
		frame := buf[:n]
		if _, err := io.ReadFull(nc, frame); err != nil {
			return err
		}
		key, version, corr := int16(be.Uint16(frame)), int16(be.Uint16(frame[2:])), be.Uint32(frame[4:])
		body := frame[10+int(be.Uint16(frame[8:])):]
		var resp kmsg.Response
		switch key {
		case 0:
			if err := s.produce(nc, corr, version, body); err != nil {
				return err
			}
			continue
		case 3:
			resp = s.metadata(nc.LocalAddr().(*net.TCPAddr))
		case 18:
			r := kmsg.NewPtrApiVersionsResponse()
			r.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 0, MaxVersion: 8}, {ApiKey: 3, MaxVersion: 8}, {ApiKey: 18}}
			resp = r
		default:
			return fmt.Errorf("request with key %d", key)
		}
		resp.SetVersion(version)
		if _, err := nc.Write(seal(resp.AppendTo(be.AppendUint32(make([]byte, 4), corr)))); err != nil {
			return err
		}
	}
}

// seal puts the length before a response.
func seal(b []byte) []byte {
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

func (s *sink) metadata(at *net.TCPAddr) kmsg.Response {
	r := kmsg.NewPtrMetadataResponse()
	r.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: at.IP.String(), Port: int32(at.Port)}}
	t := kmsg.NewMetadataResponseTopic()
	t.Topic = kmsg.StringPtr(s.topic)
	for i := range s.parts {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader = int32(i), 1
		t.Partitions = append(t.Partitions, p)
	}
	r.Topics = append(r.Topics, t)
	return r
}

// produce takes requests of one partition, as this program's producer sends them.
func (s *sink) produce(nc net.Conn, corr uint32, version int16, b []byte) error {
	const beforeTopic = 2 + 2 + 4 + 4 // transactional id (null), acks, timeout, count of topics
	name := int(be.Uint16(b[beforeTopic:]))
	b = b[beforeTopic+2+name+4:]
	index, records := int32(be.Uint32(b)), b[8:]
	if int(be.Uint32(b[4:])) != len(records) || crc32.Checksum(records[21:], castagnoli) != be.Uint32(records[17:]) {
		return errors.New("bad batch")
	}
	p := s.parts[index]
	p.mu.Lock()
	if p.pos+int64(len(records)) > s.limit {
		p.pos = 0
		if s.fresh {
			if err := p.next(); err != nil {
				p.mu.Unlock()
				return err
			}
		}
	}
	_, err := p.f.WriteAt(records, p.pos)
	p.pos += int64(len(records))
	p.mu.Unlock()
	if err != nil {
		return err
	}
	r := kmsg.NewPtrProduceResponse()
	r.Version = version
	r.Topics = []kmsg.ProduceResponseTopic{{Topic: s.topic, Partitions: []kmsg.ProduceResponseTopicPartition{{Partition: index}}}}
	ack := sinkAck{nc, seal(r.AppendTo(binary.BigEndian.AppendUint32(make([]byte, 4, 64), corr)))}
	s.mu.Lock()
	p.dirty = true
	s.pending = append(s.pending, ack)
	s.mu.Unlock()
	s.wake.Signal()
	return nil
}

// flush syncs what was written since the last time and sends its acks; it ends with the process.
func (s *sink) flush() {
	for {
		s.mu.Lock()
		for len(s.pending) == 0 {
			s.wake.Wait()
		}
		acks := s.pending
		s.pending = nil
		var dirty []*sinkPart
		for _, p := range s.parts {
			if p.dirty {
				p.dirty = false
				dirty = append(dirty, p)
			}
		}
		s.mu.Unlock()
		for _, p := range dirty {
			p.mu.Lock()
			fd := int(p.f.Fd())
			p.mu.Unlock()
			_ = syscall.Fdatasync(fd) // a file that was just replaced: its pages are the next sync's
		}
		for _, a := range acks {
			_, _ = a.nc.Write(a.resp) // a client that left does not miss it
		}
	}
}

// sendCmd is the raw limit of hot fetch: sendfile of files in the page cache, and nothing else.
func sendCmd(fs *flag.FlagSet) func() (obj, error) {
	listen := fs.String("listen", "127.0.0.1:0", "host:port; each connection gets the files again and again, after its first byte")
	dir := fs.String("dir", "", "directory of the files")
	return func() (obj, error) {
		names, err := filepath.Glob(filepath.Join(*dir, "*"))
		if err != nil || len(names) == 0 {
			return nil, errors.Join(err, errors.New("no files"))
		}
		return nil, serveEach(*listen, func(nc *net.TCPConn) error {
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				return nil
			}
			for {
				for _, name := range names {
					f, err := os.Open(name)
					if err != nil {
						return err
					}
					_, err = io.Copy(nc, f) // sendfile
					_ = f.Close()
					if err != nil {
						return nil // the client has enough
					}
				}
			}
		})
	}
}
