package gossip

import (
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/hashicorp/memberlist"
)

func peer(t *testing.T, n Node) *memberlist.Node {
	t.Helper()
	record, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &memberlist.Node{Name: memberName(n.ID), Addr: net.IPv4(127, 0, 0, 1), Port: 7946, Meta: record}
}

func TestPeersWithBadRecordsAreNoMembers(t *testing.T) {
	m := newMembers(config(1).Self, slog.New(slog.DiscardHandler))
	corrupt := peer(t, Node{ID: 2})
	corrupt.Meta = corrupt.Meta[:5]
	other := peer(t, Node{ID: 3})
	other.Name = memberName(2)
	for name, p := range map[string]*memberlist.Node{"cut off": corrupt, "under another name": other} {
		if err := m.NotifyAlive(p); !errors.Is(err, ErrRecordCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		m.NotifyJoin(p)
		m.NotifyUpdate(p)
		m.NotifyLeave(p)
		m.NotifyConflict(p, p)
	}
	if got := m.list(); len(got) != 0 || len(m.events) != 0 {
		t.Errorf("members %v and %d events", got, len(m.events))
	}
}

func TestMembersAreBounded(t *testing.T) {
	m := newMembers(config(1).Self, slog.New(slog.DiscardHandler))
	for id := range int32(maxMembers) {
		p := peer(t, Node{ID: id + 1})
		if err := m.NotifyAlive(p); err != nil {
			t.Fatal(err)
		}
		m.NotifyJoin(p)
	}
	if err := m.NotifyAlive(peer(t, Node{ID: maxMembers + 1})); err == nil {
		t.Error("one member too many was let in")
	}
	if err := m.NotifyAlive(peer(t, Node{ID: 5})); err != nil {
		t.Errorf("a known member: %v", err)
	}
	m.NotifyLeave(peer(t, Node{ID: 5}))
	if err := m.NotifyAlive(peer(t, Node{ID: maxMembers + 1})); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

func TestConflictIsToldOnce(t *testing.T) {
	m := newMembers(config(1).Self, slog.New(slog.DiscardHandler))
	first, second := peer(t, Node{ID: 2}), peer(t, Node{ID: 2})
	second.Port++
	for range 3 {
		m.NotifyConflict(first, second)
	}
	if len(m.events) != 1 {
		t.Errorf("%d events", len(m.events))
	}
}

func TestMemberlistLinesKeepTheirLevel(t *testing.T) {
	for line, want := range map[string]struct {
		level slog.Level
		text  string
	}{
		"[DEBUG] memberlist: Stream connection\n": {slog.LevelDebug, "Stream connection"},
		"[INFO] memberlist: suspect":              {slog.LevelDebug, "suspect"},
		"[WARN] memberlist: refuted":              {slog.LevelWarn, "refuted"},
		"[ERR] memberlist: failed [EOF]":          {slog.LevelWarn, "failed [EOF]"},
		"no level":                                {slog.LevelDebug, "no level"},
		"[unclosed":                               {slog.LevelDebug, "[unclosed"},
		"":                                        {slog.LevelDebug, ""},
	} {
		if level, text := parseLine(line); level != want.level || text != want.text {
			t.Errorf("%q: %v %q, want %v %q", line, level, text, want.level, want.text)
		}
	}
}

func TestGoodbyeMakesALeaveOfAFailure(t *testing.T) {
	leaver := Node{ID: 2, Epoch: 20}
	record := peer(t, leaver).Meta
	older := peer(t, Node{ID: 2, Epoch: 10}).Meta
	for name, c := range map[string]struct {
		message []byte
		want    EventKind
	}{
		"goodbye":                 {append([]byte{goodbye}, record...), Left},
		"nothing said":            {nil, Failed},
		"of an earlier life":      {append([]byte{goodbye}, older...), Failed},
		"cut off":                 {append([]byte{goodbye}, record[:5]...), Failed},
		"of a later release":      {append([]byte{9}, record...), Failed},
		"goodbye of somebody new": {append([]byte{goodbye}, peer(t, Node{ID: 3}).Meta...), Failed},
	} {
		m := newMembers(config(1).Self, slog.New(slog.DiscardHandler))
		m.NotifyJoin(peer(t, leaver))
		m.NotifyMsg(c.message)
		m.NotifyLeave(peer(t, leaver))
		<-m.events
		if e := <-m.events; e.Kind != c.want {
			t.Errorf("%s: %s, want %s", name, e.Kind, c.want)
		}
		if len(m.mu.leaving) != 0 {
			t.Errorf("%s: %v is remembered", name, m.mu.leaving)
		}
	}
}
