package partition

import (
	"path/filepath"
	"testing"
	"time"

	"varve/broker/commitlog"
	"varve/broker/internal/vfs"
)

// life is one run of a broker over a disk and a state database.
func life(t *testing.T, fs vfs.FS, states *States, clean bool) (s *Set, r *Replica, end func()) {
	t.Helper()
	env, err := commitlog.NewEnv(commitlog.EnvConfig{FS: fs, Dir: "data", Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	s = NewSet(SetConfig{NodeID: 1, Dir: "data/topics", Env: env, States: states, Clean: clean, Workers: 1, RetentionEvery: time.Hour, Log: quiet()})
	conf := &TopicConfig{RetentionAge: -1, RetentionBytes: -1, LocalAge: -1, LocalBytes: -1, MinISR: 1, MaxBatchBytes: 1 << 20}
	id := [16]byte{1}
	s.Apply([]Update{{Name: "t", ID: id, IDText: "AQAAAAAAAAAAAAAAAAAAAA", Partitions: 1, Assign: func(int32) (Assignment, bool) {
		return Assignment{Leader: 1, LeaderEpoch: 5, Replicas: 1, ISR: 1, Partitions: 1, Config: conf}, true
	}}}, nil)
	s.Start()
	return s, s.ByID(id).Partition(0), func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := env.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A clean stop says that what was open was flushed. It says nothing of a log that could not be
// recovered after the kill before: its checkpoint is older than its end (KAFKA-10471, KAFKA-15375).
func TestACleanStopProvesNothingOfALogThatWasNotRecovered(t *testing.T) {
	states, err := OpenStates(filepath.Join(t.TempDir(), "state"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer states.Close()
	mem := vfs.NewMem()
	if err := mem.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	_, r, end := life(t, mem, states, true)
	write := func(n int) {
		for range n {
			c := newCollector()
			_, parked, err := r.Append(batchAt(1, 1, 100), &Ack{Owner: c})
			if err != nil {
				t.Fatal(err)
			}
			if parked {
				<-c.got
			}
		}
	}
	write(5)
	st, ok := r.State()
	if !ok || states.Put(map[ID]State{r.ID(): st}) != nil {
		t.Fatal("no checkpoint")
	}
	write(5)
	killed := mem.KillClone()
	end()
	if err := states.Put(map[ID]State{r.ID(): st}); err != nil { // the kill came before the last checkpoint
		t.Fatal(err)
	}

	log := "data/topics/AQAAAAAAAAAAAAAAAAAAAA/0/00000000000000000000.log"
	flip := func() { // a header below the checkpoint cannot be read, and then it can again
		f, err := killed.OpenReadWrite(log)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 16); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0xff
		if _, err := f.WriteAt(b, 16); err != nil {
			t.Fatal(err)
		}
	}
	flip()
	s, r, end := life(t, killed, states, false)
	if err := s.Recover(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Log(); err == nil {
		t.Fatal("the damaged log opens")
	}
	end()
	flip()
	for range 2 { // the first of these stops cleanly without opening it
		_, r, end = life(t, killed, states, true)
		end()
	}
	_, r, end = life(t, killed, states, true)
	l, err := r.Log()
	if err != nil {
		t.Fatal(err)
	}
	if l.LEO() != 10 {
		t.Errorf("log end %d: acknowledged records from %d on are lost", l.LEO(), l.LEO())
	}
	end()
}
