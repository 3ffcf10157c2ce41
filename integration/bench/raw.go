package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// burnCmd uses a share of the cores until it is killed.
func burnCmd(fs *flag.FlagSet) func() (obj, error) {
	cores := fs.Float64("cores", 1, "cores to use")
	threads := fs.Int("threads", 2, "over this many threads")
	return func() (obj, error) {
		// Slices as long as those in which a consumer and a store work on a 1 MiB piece.
		const period = 2 * time.Millisecond
		busy := min(period, time.Duration(*cores/float64(*threads)*float64(period)))
		var wg sync.WaitGroup
		for range *threads {
			wg.Go(func() {
				at := time.Now()
				for {
					for time.Since(at) < busy { // spins
					}
					at = at.Add(period)
					if late := time.Since(at); late > 10*period {
						at = at.Add(late) // it could not get its share; it does not catch up for ever
					}
					time.Sleep(time.Until(at))
				}
			})
		}
		wg.Wait()
		return nil, nil
	}
}

// syncLoop writes a record and fdatasyncs, one after the other, for dur: into a file that was
// written before, or behind its end.
func syncLoop(dir string, appending bool, dur time.Duration) (*hist, error) {
	f, err := os.Create(filepath.Join(dir, "fdatasync"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const size = 8 << 20
	if !appending {
		if _, err := f.Write(make([]byte, size)); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
	}
	h, rec, at := new(hist), make([]byte, 330), int64(0)
	for begin := time.Now(); time.Since(begin) < dur; {
		if !appending && at+int64(len(rec)) > size {
			at = 0
		}
		from := time.Now()
		if _, err := f.WriteAt(rec, at); err != nil {
			return nil, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("fdatasync: %w", err)
		}
		h.add(time.Since(from))
		at += int64(len(rec))
	}
	return h, nil
}

// touchMemory makes the machine's memory resident, in a process that ends at once, so that the first
// process to use it does not pay for it: in a virtual machine that costs up to five times the write.
func (l *lab) touchMemory() error {
	avail := meminfo("MemAvailable")
	n := min(12<<30, avail-2<<30)
	if n <= 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := startProcess(nil, self, "touch", "-bytes", fmt.Sprint(n))
	if err != nil {
		return err
	}
	defer p.kill()
	<-p.exited
	return p.err
}
