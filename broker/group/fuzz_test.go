package group

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"varve/broker/coord"
)

// FuzzApply feeds records that nobody checked to a Machine at load, as a damaged or foreign log
// would. Whatever they are, it refuses them or can be served from.
func FuzzApply(f *testing.F) {
	w := newWorld(f)
	w.set.InitialDelay = 0
	for _, line := range []string{"join v=3", "wait 0s", "sync id=c-1 assign=c-1:x", "commit id=c-1 generation=1 t/0=1", "txncommit t/1=5"} {
		runLine(w, line)
	}
	for _, e := range w.log {
		f.Add(e.rec.Key, e.rec.Value, e.info.ProducerID)
	}
	f.Add([]byte{0, 3, 0, 1, 'g'}, []byte{0, 0}, int64(-1))
	f.Fuzz(func(t *testing.T, key, value []byte, producer int64) {
		m := New(Config{NewID: func() string { return "id" }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		now := time.UnixMilli(1_000_000)
		for range 2 { // a second record meets what the first one made
			if m.Apply(coord.Record{Key: key, Value: value}, coord.Info{ProducerID: producer}) != nil {
				return
			}
		}
		m.Loaded(now)
		m.Tick(now.Add(24 * time.Hour))
		if err := m.Marker(producer, 0, true); err != nil {
			t.Fatal(err)
		}
		check := &world{t: t, m: m}
		check.check()
		m.Stopped()
	})
}

// FuzzSubscription reads topics from what clients call their metadata.
func FuzzSubscription(f *testing.F) {
	f.Add(subscription("a", "b"))
	f.Add([]byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		topics := map[string]struct{}{}
		parseTopics(b, topics)
		size := 0
		for topic := range topics {
			size += len(topic)
		}
		if size > len(b) {
			t.Fatalf("%d bytes of topics from %d", size, len(b))
		}
	})
}

func runLine(w *world, line string) {
	name, a := parseLine(w.t, line)
	commands[name](w, a)
}
