package group

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts show into testdata")

// TestScripts runs testdata/*.txt: a line is a command with key=value words; what it leads to follows
// it, indented: records as the log gets them, replies, and after "=" everything that is kept.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, want)
			if *rewrite {
				if err := os.WriteFile(name, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("script shows something else; -rewrite writes:\n%s", got)
			}
		})
	}
}

func runScript(t *testing.T, script []byte) []byte {
	w := newWorld(t)
	lines := bufio.NewScanner(bytes.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "  "):
			continue // what an earlier run showed
		case line == "" || strings.HasPrefix(line, "#"):
			w.printf("%s\n", line)
			continue
		}
		w.printf("%s\n", line)
		name, a := parseLine(t, line)
		run, ok := commands[name]
		if !ok {
			t.Fatalf("no command %q", name)
		}
		run(w, a)
		w.showState()
	}
	return w.out.Bytes()
}

// parseLine splits a command into its name and words.
func parseLine(t testing.TB, line string) (name string, a args) {
	words := strings.Fields(line)
	a = args{t: t, line: line, m: map[string]string{}}
	for _, word := range words[1:] {
		k, v, ok := strings.Cut(word, "=")
		if !ok {
			k, v = "", word
		}
		if strings.Contains(k, "/") || !ok && strings.Contains(v, "/") { // t/0=5
			a.offsets = append(a.offsets, word)
			continue
		}
		a.m[k] = v
	}
	return words[0], a
}

// args are the words of a command.
type args struct {
	t       testing.TB
	line    string
	m       map[string]string
	offsets []string
}

func (a args) str(key, def string) string {
	if v, ok := a.m[key]; ok {
		return v
	}
	return def
}

func (a args) num(key string, def int) int {
	v, ok := a.m[key]
	if !ok {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		a.t.Fatalf("%s: %v", a.line, err)
	}
	return n
}

func (a args) ptr(key string) *string {
	if v, ok := a.m[key]; ok {
		return &v
	}
	return nil
}

func (a args) duration(key, def string) time.Duration {
	d, err := time.ParseDuration(a.str(key, def))
	if err != nil {
		a.t.Fatalf("%s: %v", a.line, err)
	}
	return d
}

// eachOffset calls f for every topic/partition=offset.
func (a args) eachOffset(f func(topic string, p int32, at int64)) {
	for _, word := range a.offsets {
		name, at, _ := strings.Cut(word, "=")
		topic, part, _ := strings.Cut(name, "/")
		p, err := strconv.Atoi(part)
		n, err2 := strconv.ParseInt("0"+at, 10, 64)
		if err != nil || err2 != nil {
			a.t.Fatalf("%s: bad offset %q", a.line, word)
		}
		f(topic, int32(p), n)
	}
}

var commands map[string]func(*world, args)

func init() {
	commands = map[string]func(*world, args){
		"join": (*world).doJoin, "sync": (*world).doSync, "beat": (*world).doBeat, "leave": (*world).doLeave,
		"commit": (*world).doCommit, "txncommit": (*world).doTxnCommit, "fetch": (*world).doFetch,
		"offsetdelete": (*world).doOffsetDelete, "describe": (*world).doDescribe, "list": (*world).doList,
		"delete": (*world).doDelete, "gone": func(w *world, a args) { w.step(w.m.TopicsDeleted(w.now, []string{a.str("", "")})) },
		"wait":    func(w *world, a args) { w.pass(a.duration("", "")) },
		"marker":  func(w *world, a args) { w.mark(int64(a.num("pid", 0)), a.str("commit", "true") == "true") },
		"restart": func(w *world, _ args) { w.m.Stopped(); w.load() },
		"lose":    func(w *world, a args) { w.lost = a.str("", "on") == "on" },
		"set":     (*world).doSet,
	}
}

func (w *world) doSet(a args) {
	w.set.InitialDelay = a.duration("delay", w.set.InitialDelay.String())
	w.set.OffsetsRetention = a.duration("retention", w.set.OffsetsRetention.String())
	w.set.RetentionCheck = a.duration("check", w.set.RetentionCheck.String())
	w.set.MaxSize = a.num("maxsize", w.set.MaxSize)
}

func (w *world) doJoin(a args) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.InstanceID = a.str("g", "g"), a.str("id", ""), a.ptr("static")
	req.ProtocolType = a.str("type", "consumer")
	req.SessionTimeoutMillis = int32(a.duration("session", "10s").Milliseconds())
	req.RebalanceTimeoutMillis = int32(a.duration("rebalance", "60s").Milliseconds())
	for _, p := range strings.Split(a.str("protocols", "range:t"), ",") {
		name, topic, _ := strings.Cut(p, ":")
		x := kmsg.NewJoinGroupRequestProtocol()
		x.Name, x.Metadata = name, subscription(topic)
		req.Protocols = append(req.Protocols, x)
	}
	label := a.str("as", a.str("id", "new"))
	client := Client{ID: a.str("client", "c"), Host: "/host", Version: int16(a.num("v", 9))}
	w.step(w.m.Join(w.now, req, client, func(r *kmsg.JoinGroupResponse) {
		w.printf("  %s joined: %s member=%s", label, codeName(r.ErrorCode), r.MemberID)
		if r.ErrorCode == 0 {
			w.printf(" generation=%d leader=%s protocol=%s/%s", r.Generation, r.LeaderID, *r.ProtocolType, *r.Protocol)
			if r.SkipAssignment {
				w.printf(" skip")
			}
			for _, m := range r.Members {
				w.printf(" [%s %dB]", m.MemberID, len(m.ProtocolMetadata))
			}
		}
		w.printf("\n")
	}))
}

func (w *world) doSync(a args) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.InstanceID = a.str("g", "g"), a.str("id", ""), a.ptr("static")
	req.Generation = int32(a.num("generation", 1))
	req.ProtocolType, req.Protocol = kmsg.StringPtr(a.str("type", "consumer")), kmsg.StringPtr(a.str("protocol", "range"))
	if list := a.str("assign", ""); list != "" {
		for _, x := range strings.Split(list, ",") {
			id, what, _ := strings.Cut(x, ":")
			ga := kmsg.NewSyncGroupRequestGroupAssignment()
			ga.MemberID, ga.MemberAssignment = id, []byte(what)
			req.GroupAssignment = append(req.GroupAssignment, ga)
		}
	}
	w.step(w.m.Sync(w.now, req, Client{Version: 5}, func(r *kmsg.SyncGroupResponse) {
		w.printf("  %s synced: %s assignment=%q\n", req.MemberID, codeName(r.ErrorCode), r.MemberAssignment)
	}))
}

func (w *world) doBeat(a args) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.InstanceID = a.str("g", "g"), a.str("id", ""), a.ptr("static")
	req.Generation = int32(a.num("generation", 1))
	w.step(w.m.Heartbeat(w.now, req, func(r *kmsg.HeartbeatResponse) {
		w.printf("  %s heartbeat: %s\n", req.MemberID, codeName(r.ErrorCode))
	}))
}

func (w *world) doLeave(a args) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = a.str("g", "g")
	for _, x := range strings.Split(a.str("ids", ""), ",") {
		m := kmsg.NewLeaveGroupRequestMember()
		id, instance, static := strings.Cut(x, "@")
		if m.MemberID = id; static {
			m.InstanceID = &instance
		}
		req.MemberID, req.Members = id, append(req.Members, m)
	}
	w.step(w.m.Leave(w.now, req, Client{Version: int16(a.num("v", 5))}, func(r *kmsg.LeaveGroupResponse) {
		w.printf("  left: %s", codeName(r.ErrorCode))
		for _, m := range r.Members {
			w.printf(" [%s %s]", m.MemberID, codeName(m.ErrorCode))
		}
		w.printf("\n")
	}))
}

func (w *world) doCommit(a args) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version = int16(a.num("v", 9))
	req.Group, req.MemberID, req.InstanceID = a.str("g", "g"), a.str("id", ""), a.ptr("static")
	req.Generation = int32(a.num("generation", -1))
	if a.m["retention"] != "" {
		req.RetentionTimeMillis = a.duration("retention", "").Milliseconds()
	}
	a.eachOffset(func(topic string, p int32, at int64) {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		x := kmsg.NewOffsetCommitRequestTopicPartition()
		x.Partition, x.Offset, x.Metadata = p, at, kmsg.StringPtr(strings.Repeat("m", a.num("metadata", 0)))
		t.Partitions = append(t.Partitions, x)
		req.Topics = append(req.Topics, t)
	})
	w.step(w.m.CommitOffsets(w.now, req, func(r *kmsg.OffsetCommitResponse) {
		for _, t := range r.Topics {
			w.printf("  committed %s/%d: %s\n", t.Topic, t.Partitions[0].Partition, codeName(t.Partitions[0].ErrorCode))
		}
	}))
}

func (w *world) doTxnCommit(a args) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Group, req.MemberID, req.InstanceID = a.str("g", "g"), a.str("id", ""), a.ptr("static")
	req.Generation, req.ProducerID = int32(a.num("generation", -1)), int64(a.num("pid", 7))
	a.eachOffset(func(topic string, p int32, at int64) {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		x := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		x.Partition, x.Offset = p, at
		t.Partitions = append(t.Partitions, x)
		req.Topics = append(req.Topics, t)
	})
	w.step(w.m.CommitTxnOffsets(w.now, req, func(r *kmsg.TxnOffsetCommitResponse) {
		for _, t := range r.Topics {
			w.printf("  committed %s/%d: %s\n", t.Topic, t.Partitions[0].Partition, codeName(t.Partitions[0].ErrorCode))
		}
	}))
}

func (w *world) doFetch(a args) {
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = a.str("g", "g")
	a.eachOffset(func(topic string, p int32, _ int64) {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = topic, []int32{p}
		req.Topics = append(req.Topics, t)
	})
	w.step(w.m.FetchOffsets(w.now, req, a.str("stable", "") == "true", func(r kmsg.OffsetFetchResponseGroup) {
		w.printf("  fetched: %s", codeName(r.ErrorCode))
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				w.printf(" [%s/%d %d %s]", t.Topic, p.Partition, p.Offset, codeName(p.ErrorCode))
			}
		}
		w.printf("\n")
	}))
}

func (w *world) doOffsetDelete(a args) {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = a.str("g", "g")
	a.eachOffset(func(topic string, p int32, _ int64) {
		t := kmsg.NewOffsetDeleteRequestTopic()
		t.Topic = topic
		x := kmsg.NewOffsetDeleteRequestTopicPartition()
		x.Partition = p
		t.Partitions = append(t.Partitions, x)
		req.Topics = append(req.Topics, t)
	})
	w.step(w.m.DeleteOffsets(w.now, req, func(r *kmsg.OffsetDeleteResponse) {
		w.printf("  offsets deleted: %s", codeName(r.ErrorCode))
		for _, t := range r.Topics {
			w.printf(" [%s/%d %s]", t.Topic, t.Partitions[0].Partition, codeName(t.Partitions[0].ErrorCode))
		}
		w.printf("\n")
	}))
}

func (w *world) doDescribe(a args) {
	id := a.str("g", "g")
	w.step(w.m.Describe(w.now, id, Client{Version: int16(a.num("v", 6))}, func(r kmsg.DescribeGroupsResponseGroup) {
		w.printf("  described: %s %s %s/%s", codeName(r.ErrorCode), r.State, r.ProtocolType, r.Protocol)
		for _, m := range r.Members {
			w.printf(" [%s %s %s %dB %q]", m.MemberID, m.ClientID, m.ClientHost, len(m.ProtocolMetadata), m.MemberAssignment)
		}
		w.printf("\n")
	}))
}

func (w *world) doList(a args) {
	var states, types []string
	if s := a.str("states", ""); s != "" {
		states = strings.Split(s, ",")
	}
	if s := a.str("types", ""); s != "" {
		types = strings.Split(s, ",")
	}
	w.step(w.m.List(w.now, states, types, func(groups []kmsg.ListGroupsResponseGroup, err error) {
		w.must(err)
		names := make([]string, 0, len(groups))
		for _, g := range groups {
			names = append(names, fmt.Sprintf("%s:%s:%s:%s", g.Group, g.ProtocolType, g.GroupState, g.GroupType))
		}
		w.printf("  listed: %v\n", names)
	}))
}

func (w *world) doDelete(a args) {
	w.step(w.m.Delete(w.now, a.str("g", "g"), func(code int16) { w.printf("  deleted: %s\n", codeName(code)) }))
}
