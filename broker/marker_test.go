package broker

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAStateDatabaseFromBeforeTheCleanStopProvesNothing gives a broker the state database of the stop before
// the last one, as a disk that lost the last writes of an unsynced file does. Its checkpoints name the same
// files as the directory has, and end below what was acknowledged.
func TestAStateDatabaseFromBeforeTheCleanStopProvesNothing(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	run := func(from, to int) {
		b := openBroker(t, cfg)
		c := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if from == 0 {
			createTopic(t, c, "t", 1, nil)
		}
		produceRecords(t, c, "t", from, to)
		c.Close()
		closeBroker(t, b)
	}
	state := filepath.Join(cfg.DataDir, "state")
	old := filepath.Join(t.TempDir(), "state")
	run(0, 100)
	if err := os.CopyFS(old, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	run(100, 200)
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(state, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}

	b := openBroker(t, cfg)
	defer closeBroker(t, b)
	if b.clean {
		t.Error("a start with the state of another stop was taken for a clean one")
	}
	readAll(t, b, "t", 200)
	l, err := b.set.ByName("t").Partition(0).Log()
	if err != nil || l.LEO() != 200 {
		t.Errorf("log end %d of 200: acknowledged records are lost, or new ones will take their offsets (%v)", l.LEO(), err)
	}
}

// TestABrokerThatIsAloneBindsNoInternalListener starts one whose internal address is taken: with one voter
// nobody is to be reached there, so it must not keep a second broker of the machine from starting.
func TestABrokerThatIsAloneBindsNoInternalListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := testConfig(t, t.TempDir())
	cfg.InternalListen = ln.Addr().String()
	b := openBroker(t, cfg)
	defer closeBroker(t, b)
	c := client(t, b)
	createTopic(t, c, "t", 1, nil)
	produceRecords(t, c, "t", 0, 10)
	readAll(t, b, "t", 10)
	c.Close()
}
