// Package integration tests Varve from outside: real processes, real clients, a real MinIO server.
// It is a module of its own, so that five Kafka clients are dependencies of the tests alone.
package integration

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"varve/integration/harness"
)

// shared is the broker of all tests that need nothing special of it; each uses topics of its own.
var shared struct {
	once   sync.Once
	broker *harness.Broker
	dir    string
	err    error
}

// sharedBroker gives the shared broker, started by the first test that asks.
func sharedBroker(t testing.TB) *harness.Broker {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "varve-integration-"); shared.err == nil {
			shared.broker, shared.err = harness.Launch(harness.Options{Dir: shared.dir})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	shared.broker.Watch(t)
	return shared.broker
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.broker != nil {
		if err := shared.broker.Close(); err != nil {
			fmt.Fprintf(os.Stderr, "the shared broker: %v\n%s\n", err, shared.broker.Log())
			code = max(code, 1)
		}
	}
	_ = os.RemoveAll(shared.dir)
	os.Exit(code)
}
