package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	be        = binary.BigEndian
	formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("kbench"))
	errFrame  = errors.New("response shorter than its own fields")
)

// conn is one connection with its own framing. Reads are sticky on err, so that a
// parser checks once at its end.
type conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	buf     []byte
	r, w    int // unread part of buf
	left    int // unread bytes of the current response
	discard bool
	err     error
	out     []byte
	corr    int32
	max     map[int16]int16
}

var versions sync.Map // addr -> map[int16]int16

func dial(addr string, bufSize int, timeout time.Duration) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: nc.(*net.TCPConn), buf: make([]byte, bufSize)}
	c.raw, _ = c.SyscallConn()
	if v, ok := versions.Load(addr); ok {
		c.max = v.(map[int16]int16)
		return c, nil
	}
	c.SetDeadline(time.Now().Add(timeout))
	resp, err := c.call(kmsg.NewPtrApiVersionsRequest())
	if err != nil {
		c.Close()
		return nil, err
	}
	c.max = map[int16]int16{}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		c.max[k.ApiKey] = k.MaxVersion
	}
	versions.Store(addr, c.max)
	c.SetDeadline(time.Time{})
	return c, nil
}

// call does one request, in the newest version both know, and waits for its response.
func (c *conn) call(req kmsg.Request) (kmsg.Response, error) {
	v := min(req.MaxVersion(), c.max[req.Key()])
	if req.Key() == 0 {
		v = min(v, 12) // later ones name topics by id
	}
	req.SetVersion(v)
	c.corr++
	c.out = formatter.AppendRequest(c.out[:0], req, c.corr)
	if _, err := c.Write(c.out); err != nil {
		return nil, err
	}
	c.frame()
	body := c.take(c.left)
	if c.err != nil {
		return nil, c.err
	}
	resp := req.ResponseKind()
	if resp.IsFlexible() && resp.Key() != 18 {
		body = body[1:] // an empty tag section
	}
	return resp, resp.ReadFrom(body)
}

func (c *conn) fill(n int) {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.r+n > len(c.buf) {
		b := c.buf
		if n > len(b) {
			b = make([]byte, n+n/2)
		}
		c.w = copy(b, c.buf[c.r:c.w])
		c.r, c.buf = 0, b
	}
	m, err := c.Read(c.buf[c.w:])
	if c.w += m; m == 0 && c.err == nil {
		c.err = cmpErr(err)
	}
}

func cmpErr(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame begins the next response behind its correlation id; c.left bytes follow.
func (c *conn) frame() {
	c.left = 4
	c.left = int(c.i32())
	c.i32()
}

// peek returns the next n bytes, valid until the next read; nil on error.
func (c *conn) peek(n int) []byte {
	if c.err == nil && (n < 0 || n > c.left) {
		c.err = errFrame
	}
	for c.err == nil && c.w-c.r < n {
		c.fill(n)
	}
	if c.err != nil {
		return nil
	}
	return c.buf[c.r : c.r+n]
}

func (c *conn) take(n int) []byte {
	b := c.peek(n)
	c.r += len(b)
	c.left -= len(b)
	return b
}

// skip drops n bytes; with c.discard the kernel drops them without a copy (MSG_TRUNC).
func (c *conn) skip(n int) {
	if n > c.left {
		c.err = errFrame
	}
	c.left -= n
	for c.err == nil {
		have := min(n, c.w-c.r)
		c.r += have
		if n -= have; n == 0 {
			return
		}
		if !c.discard || n < len(c.buf) {
			c.fill(1)
			continue
		}
		err := c.raw.Read(func(fd uintptr) bool {
			for n > 0 && c.err == nil {
				m, _, e := syscall.Syscall6(syscall.SYS_RECVFROM, fd, 0, uintptr(n), syscall.MSG_TRUNC, 0, 0)
				switch {
				case e == syscall.EAGAIN:
					return false
				case e == syscall.EINTR:
				case e != 0:
					c.err = e
				case m == 0:
					c.err = io.ErrUnexpectedEOF
				default:
					n -= int(m)
				}
			}
			return true
		})
		if err != nil {
			c.err = err
		}
	}
}

func (c *conn) i16() int16 {
	if b := c.take(2); b != nil {
		return int16(be.Uint16(b))
	}
	return 0
}

func (c *conn) i32() int32 {
	if b := c.take(4); b != nil {
		return int32(be.Uint32(b))
	}
	return 0
}

func (c *conn) i64() int64 {
	if b := c.take(8); b != nil {
		return int64(be.Uint64(b))
	}
	return 0
}

func (c *conn) str() []byte { return c.take(max(int(c.i16()), 0)) }

// tp is one partition and its leader's address.
type tp struct {
	topic  string
	part   int32
	leader string
}

// anyBroker runs f on a connection to the first broker of the list that answers.
func anyBroker[T any](list string, f func(*conn) (T, error)) (res T, err error) {
	for addr := range strings.SplitSeq(list, ",") {
		var c *conn
		if c, err = dial(addr, 64<<10, 2*time.Second); err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(60 * time.Second))
		res, err = f(c)
		c.Close()
		if err == nil {
			return
		}
	}
	return
}

// metadata lists the partitions of the topics, in order; leader is "" where there is none.
func metadata(list string, topics ...string) ([]tp, error) {
	return anyBroker(list, func(c *conn) (tps []tp, err error) {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{}
		for _, t := range topics {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(t)
			req.Topics = append(req.Topics, rt)
		}
		r, err := c.call(req)
		if err != nil {
			return nil, err
		}
		resp := r.(*kmsg.MetadataResponse)
		addr := map[int32]string{}
		for _, b := range resp.Brokers {
			addr[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
		}
		for _, t := range resp.Topics {
			slices.SortFunc(t.Partitions, func(a, b kmsg.MetadataResponseTopicPartition) int { return int(a.Partition - b.Partition) })
			for _, p := range t.Partitions {
				tps = append(tps, tp{*t.Topic, p.Partition, addr[p.Leader]})
			}
		}
		return
	})
}

// ensureTopic creates the topic unless it is there, and waits for its leaders.
func ensureTopic(list, name string, parts, rf int, configs ...[2]string) ([]tp, error) {
	create := func(c *conn) (int, error) {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 60000
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(parts), int16(rf)
		for _, kv := range configs {
			tc := kmsg.NewCreateTopicsRequestTopicConfig()
			tc.Name, tc.Value = kv[0], kmsg.StringPtr(kv[1])
			t.Configs = append(t.Configs, tc)
		}
		req.Topics = append(req.Topics, t)
		r, err := c.call(req)
		if err != nil {
			return 0, err
		}
		if e := r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode; e != 0 && e != 36 {
			return 0, fmt.Errorf("create topic %s: %w", name, kerr.ErrorForCode(e))
		}
		return 0, nil
	}
	_, err := anyBroker(list, create)
	for try := 0; kerr.IsRetriable(err) && try < 100; try++ { // no controller yet
		time.Sleep(100 * time.Millisecond)
		_, err = anyBroker(list, create)
	}
	for wait := 0; err == nil; wait++ {
		tps, e := metadata(list, name)
		if err = e; err != nil {
			break
		}
		if len(tps) >= parts && !slices.ContainsFunc(tps, func(p tp) bool { return p.leader == "" }) {
			return tps[:parts], nil
		}
		if wait > 600 {
			return nil, fmt.Errorf("topic %s: %d of %d partitions, or no leader", name, len(tps), parts)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// listOffsets asks each leader for the offset at a timestamp (-1 end, -2 earliest, -4 earliest local).
func listOffsets(tps []tp, ts int64) (map[tp]int64, error) {
	res := map[tp]int64{}
	for _, group := range assign(tps, 1) {
		c, err := dial(group[0].leader, 64<<10, 5*time.Second)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		for _, p := range group {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p.part, ts, -1
			if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != p.topic {
				rt := kmsg.NewListOffsetsRequestTopic()
				rt.Topic = p.topic
				req.Topics = append(req.Topics, rt)
			}
			t := &req.Topics[len(req.Topics)-1]
			t.Partitions = append(t.Partitions, rp)
		}
		r, err := c.call(req)
		if err != nil {
			return nil, err
		}
		for _, t := range r.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					return nil, fmt.Errorf("list offsets %s/%d: error code %d", t.Topic, p.Partition, p.ErrorCode)
				}
				res[tp{t.Topic, p.Partition, group[0].leader}] = p.Offset
			}
		}
	}
	return res, nil
}

// assign splits partitions over about n connections, each to one leader. With more
// connections than partitions, a partition has several.
func assign(tps []tp, n int) (groups [][]tp) {
	by := map[string][]tp{}
	var leaders []string
	for _, p := range tps {
		if by[p.leader] == nil {
			leaders = append(leaders, p.leader)
		}
		by[p.leader] = append(by[p.leader], p)
	}
	for _, l := range leaders {
		own := by[l]
		per := max(1, n/len(leaders))
		g := make([][]tp, per)
		for i := range max(per, len(own)) {
			g[i%per] = append(g[i%per], own[i%len(own)])
		}
		groups = append(groups, g...)
	}
	return
}
