package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// TestMain looks for leaks until there are none: memberlist's probes under way at a stop end by
// themselves, later than goleak alone would wait.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		err := goleak.Find()
		for end := time.Now().Add(patience); err != nil && time.Now().Before(end); {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is how long a test waits for what must happen; nothing is measured with it.
const patience = 20 * time.Second

func config(id int32, seeds ...string) Config {
	return Config{
		Self:      Node{ID: id, Epoch: int64(id) * 10, Rack: "r", Kafka: "127.0.0.1:9092", Admin: "127.0.0.1:9644"},
		ClusterID: "cluster-of-the-test", Bind: "127.0.0.1:0", Seeds: seeds, Log: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, cfg Config) *Gossip {
	t.Helper()
	g, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// waitFor takes events until one is wanted.
func waitFor(t *testing.T, g *Gossip, kind EventKind, id int32) Event {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case e, open := <-g.Events():
			if !open {
				t.Fatalf("events ended before broker %d %s", id, kind)
			}
			if e.Kind == kind && e.Member.ID == id {
				return e
			}
		case <-late:
			t.Fatalf("broker %d never %s; members %v", id, kind, g.Members())
		}
	}
}

func ids(g *Gossip) []int32 {
	var all []int32
	for _, m := range g.Members() {
		all = append(all, m.ID)
	}
	return all
}

func TestTwoBrokersFindEachOther(t *testing.T) {
	a := start(t, config(1))
	b := start(t, config(2, a.Address()))
	want := Member{Node: config(2).Self, Address: b.Address()}
	if got := waitFor(t, a, Joined, 2).Member; got != want {
		t.Errorf("broker 1 sees %+v, want %+v", got, want)
	}
	waitFor(t, b, Joined, 1)
	if diff := cmp.Diff(want, a.Members()[1]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int32{1, 2}, ids(b)); diff != "" {
		t.Error(diff)
	}
}

func TestThreeBrokersFindEachOtherThroughOneSeed(t *testing.T) {
	a := start(t, config(1))
	b := start(t, config(2, a.Address()))
	waitFor(t, a, Joined, 2)
	c := start(t, config(3, a.Address()))
	waitFor(t, a, Joined, 3)
	waitFor(t, b, Joined, 3)
	waitFor(t, c, Joined, 2)
	if diff := cmp.Diff([]int32{1, 2, 3}, ids(c)); diff != "" {
		t.Error(diff)
	}
}

func TestLeaveIsSeenAsLeave(t *testing.T) {
	a := start(t, config(1))
	b := start(t, config(2, a.Address()))
	waitFor(t, a, Joined, 2)
	waitFor(t, b, Joined, 1)
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, a, Left, 2)
	if diff := cmp.Diff([]int32{1}, ids(a)); diff != "" {
		t.Error(diff)
	}
	var last Event
	for last = range b.Events() { // ends, because Leave closes the channel
		if last.Kind == Failed {
			t.Errorf("the leaving broker saw %v", last)
		}
	}
	if last.Kind != Left || last.Member.ID != 2 {
		t.Errorf("the leaving broker's last event is %v", last)
	}
}

func TestSilentBrokerIsHintedAtAndComesBackUnderAnotherAddress(t *testing.T) {
	a := start(t, config(1))
	b := start(t, config(2, a.Address()))
	waitFor(t, a, Joined, 2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, a, Failed, 2)
	again := start(t, config(2, a.Address()))
	if got := waitFor(t, a, Joined, 2).Member.Address; got != again.Address() {
		t.Errorf("broker 2 is at %s, want %s", got, again.Address())
	}
}

func TestSeedsMayComeLaterAndMayBeTheOwnAddress(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	later := held.Addr().String()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	a := start(t, config(1, later))
	cfg := config(2, later)
	cfg.Bind = later // its own address is its only seed
	b := start(t, cfg)
	waitFor(t, a, Joined, 2)
	waitFor(t, b, Joined, 1)
	if n, err := b.Join(t.Context(), []string{b.Address()}); n != 0 || err != nil {
		t.Errorf("Join of the own address = %d, %v", n, err)
	}
	if n, err := b.Join(t.Context(), []string{a.Address()}); n != 1 || err != nil {
		t.Errorf("Join of a member = %d, %v", n, err)
	}
}

func TestBrokersOfAnotherClusterAreRefused(t *testing.T) {
	a := start(t, config(1))
	for _, label := range []string{"another-cluster", ""} {
		cfg := config(2)
		cfg.ClusterID = label
		b := start(t, cfg)
		if n, err := b.Join(t.Context(), []string{a.Address()}); err == nil {
			t.Errorf("cluster %q joined %d members", label, n)
		}
		if n, err := a.Join(t.Context(), []string{b.Address()}); err == nil {
			t.Errorf("joined %d members of cluster %q", n, label)
		}
		if len(a.Members()) != 1 || len(b.Members()) != 1 {
			t.Errorf("cluster %q: members %v and %v", label, a.Members(), b.Members())
		}
	}
}

func TestBrokersWithoutTheKeyAreRefused(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	cfg := config(1)
	cfg.Keyring = [][]byte{key}
	a := start(t, cfg)
	for name, keys := range map[string][][]byte{"no key": nil, "another key": {bytes.Repeat([]byte{2}, 32)}} {
		cfg := config(2)
		cfg.Keyring = keys
		b := start(t, cfg)
		if n, err := b.Join(t.Context(), []string{a.Address()}); err == nil {
			t.Errorf("%s: joined %d members", name, n)
		}
		if len(a.Members()) != 1 || len(b.Members()) != 1 {
			t.Errorf("%s: members %v and %v", name, a.Members(), b.Members())
		}
	}
	cfg = config(3)
	cfg.Keyring = [][]byte{key}
	b := start(t, cfg)
	if n, err := b.Join(t.Context(), []string{a.Address()}); n != 1 || err != nil {
		t.Errorf("the right key: %d, %v", n, err)
	}
}

func TestKeysRotateWithoutLosingAMember(t *testing.T) {
	older, newer := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	var both []*Gossip
	for id := range int32(2) {
		cfg := config(id + 1)
		cfg.Keyring = [][]byte{older}
		both = append(both, start(t, cfg))
	}
	for _, keys := range [][][]byte{{older, newer}, {newer, older}, {newer}} {
		for _, g := range both {
			if err := g.SetKeyring(keys); err != nil {
				t.Fatal(err)
			}
			if _, err := both[1].Join(t.Context(), []string{both[0].Address()}); err != nil {
				t.Fatalf("in the middle of the rotation: %v", err)
			}
		}
	}
	if got := both[0].keyring.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], newer) {
		t.Errorf("keys after the rotation: %x", got)
	}
	if err := both[0].SetKeyring([][]byte{{1, 2, 3}}); err == nil {
		t.Error("a key of three bytes was taken")
	}
	if err := start(t, config(9)).SetKeyring([][]byte{newer}); err == nil {
		t.Error("encryption was switched on at run time")
	}
}

func TestSecondProcessWithOneNodeIDIsToldAsConflict(t *testing.T) {
	a := start(t, config(1))
	first := start(t, config(2, a.Address()))
	waitFor(t, a, Joined, 2)
	second := start(t, config(2, a.Address()))
	e := waitFor(t, a, Conflict, 2)
	if e.Member.Address != first.Address() || e.Other != second.Address() {
		t.Errorf("conflict of %s and %s, want %s and %s", e.Member.Address, e.Other, first.Address(), second.Address())
	}
}

func TestPortTakenIsTold(t *testing.T) {
	a := start(t, config(1))
	cfg := config(2)
	cfg.Bind = a.Address()
	_, err := Start(t.Context(), cfg)
	if !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), a.Address()) {
		t.Errorf("Start on a taken port: %v", err)
	}
}

func TestConfigFaultsAreToldTogether(t *testing.T) {
	cfg := Config{
		Self: Node{ID: 1, Rack: strings.Repeat("r", 256)}, ClusterID: strings.Repeat("c", 256),
		Bind: "nowhere", Advertise: "host:port", Seeds: []string{"a:70000"}, Keyring: [][]byte{{1}},
	}
	_, err := Start(t.Context(), cfg)
	if !errors.Is(err, ErrRecordTooLarge) {
		t.Errorf("%v does not wrap ErrRecordTooLarge", err)
	}
	for _, part := range []string{"cluster id", `"nowhere"`, `"host:port"`, `"a:70000"`, "key 0"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

func TestAdvertisedAddressCanBeDialled(t *testing.T) {
	cfg := config(1)
	cfg.Bind = "0.0.0.0:0"
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "advertise") {
		t.Errorf("every address of the machine was advertised: %v", err)
	}
	cfg.Advertise = "localhost:0"
	g := start(t, cfg)
	b := start(t, config(2, g.Address()))
	waitFor(t, g, Joined, 2)
	waitFor(t, b, Joined, 1)
	cfg.Advertise = "[::]:1"
	if _, err := Start(t.Context(), cfg); err == nil {
		t.Error("[::] was advertised")
	}
}

// A peer that accepts and says nothing holds a join up; a stop must not wait for it.
func TestStopDoesNotWaitForASilentSeed(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 16)
	go func() {
		defer close(accepted)
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	cfg := config(1, silent.Addr().String())
	cfg.Preset = PresetWAN // 30 s for an exchange
	g := start(t, cfg)
	first := <-accepted
	peer, err := net.Dial("tcp", g.Address()) // and one that says nothing to us
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.Leave(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("Leave waits for a silent peer")
	}
	_, err = peer.Read(make([]byte, 1))
	if err == nil {
		t.Error("the silent peer got a byte")
	}
	for _, c := range []interface{ Close() error }{peer, first, silent} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for conn := range accepted {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(g.Leave(t.Context()), g.Close()); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

func TestStrangersCannotHoldManyStreams(t *testing.T) {
	cfg := config(1)
	cfg.Preset = PresetWAN // so that none is given up meanwhile
	g := start(t, cfg)
	var conns []net.Conn
	for range maxStreams + 1 {
		conn, err := net.Dial("tcp", g.Address())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	// The last one is closed at once; the read returns when that has happened.
	if _, err := conns[maxStreams].Read(make([]byte, 1)); err == nil {
		t.Error("a stream above the limit got a byte")
	}
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestEventsDropTheOldest(t *testing.T) {
	m := newMembers(config(1).Self, slog.New(slog.DiscardHandler))
	for i := range int32(eventSlots + 3) {
		m.mu.Lock()
		m.tellLocked(Event{Kind: Joined, Member: Member{Node: Node{ID: i}}})
		m.mu.Unlock()
	}
	m.close()
	m.close() // twice is once
	m.mu.Lock()
	m.tellLocked(Event{Kind: Joined})
	m.mu.Unlock()
	var got []int32
	for e := range m.events {
		got = append(got, e.Member.ID)
	}
	if len(got) != eventSlots || got[0] != 3 || !slices.IsSorted(got) || m.dropped.Load() != 3 {
		t.Errorf("kept %v, dropped %d; want the newest %d in order, and 3 dropped", got, m.dropped.Load(), eventSlots)
	}
}
