package coord

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkCommit is one small record a event, with as many in flight as the queue takes: what is
// left of an offset commit beside the protocol.
func BenchmarkCommit(b *testing.B) {
	w := newWorld(b)
	w.put("a", "1")
	b.ReportAllocs()
	places := make(chan struct{}, 64)
	failed := make(chan error, 1)
	b.ResetTimer()
	for i := range b.N {
		places <- struct{}{}
		done := func(err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
			<-places
		}
		records := put(fmt.Sprint("key", i%1000), "a value of some fifty bytes, as an offset has them..")
		err := w.rt.Do(0, func(Machine, time.Time) Step { return Step{Records: records, Then: done} }, done)
		if err != nil {
			b.Fatal(err)
		}
	}
	for range cap(places) {
		places <- struct{}{}
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
}
