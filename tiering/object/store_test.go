package object_test

import (
	"testing"

	"go.uber.org/goleak"

	"varve/tiering/object"
	"varve/tiering/object/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) object.Store { return object.NewMem() })
}

func TestDirKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) object.Store {
		s, err := object.Open(t.Context(), "dir://"+t.TempDir(), object.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestDecoratedStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) object.Store {
		return object.NewRetry(object.NewMeter(object.NewFault(object.NewMem())), object.RetryPolicy{})
	})
}

func TestS3KeepsTheContract(t *testing.T) {
	open := storetest.S3(t)
	storetest.Run(t, func(t *testing.T) object.Store { return open(t) })
}
