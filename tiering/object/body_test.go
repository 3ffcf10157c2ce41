package object

import (
	"errors"
	"io"
	"testing"
)

// gatedReader holds each ReadAt until it is told to go on.
type gatedReader struct{ entered, release chan struct{} }

func (r gatedReader) ReadAt(p []byte, _ int64) (int, error) {
	r.entered <- struct{}{}
	<-r.release
	return len(p), nil
}

func TestBodyReaderDetachWaitsForTheReadUnderWayAndRefusesTheNext(t *testing.T) {
	g := gatedReader{make(chan struct{}, 1), make(chan struct{})}
	r := newBodyReader(Body{Reader: g, Size: 100}, 100)
	order := make(chan string, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.Read(make([]byte, 10))
	}()
	<-g.entered
	detached := make(chan struct{})
	go func() {
		defer close(detached)
		if err := r.detach(); err != nil {
			t.Error(err)
		}
		order <- "detached"
	}()
	order <- "read" // detach cannot have come first: the read still holds the body
	close(g.release)
	<-done
	<-detached
	if first := <-order; first != "read" {
		t.Errorf("%s came first", first)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errDetached) {
		t.Errorf("a read after detach: %d, %v", n, err)
	}
}

func TestBodyReaderReportsItsOwnReadersError(t *testing.T) {
	rotten := errors.New("disk is rotten")
	r := newBodyReader(Body{Reader: failing{rotten}, Size: 10}, 10)
	if _, err := r.Read(make([]byte, 5)); !errors.Is(err, rotten) {
		t.Error(err)
	}
	if err := r.detach(); !errors.Is(err, rotten) {
		t.Error(err)
	}
	short := newBodyReader(Body{Reader: failing{io.EOF}, Size: 10}, 10)
	_, _ = short.Read(make([]byte, 5))
	if err := short.detach(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }
