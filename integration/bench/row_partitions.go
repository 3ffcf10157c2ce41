package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func rowPartitions(l *lab) (*result, error) {
	const (
		partitions = 10_000
		perTopic   = 1000
	)
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	var tps []tp
	begin := time.Now()
	for i := range partitions / perTopic {
		ps, err := ensureTopic(b.addr, fmt.Sprint("many-", i), perTopic, 1)
		if err != nil {
			return nil, err
		}
		tps = append(tps, ps...)
	}
	created := time.Since(begin)
	if err := b.oneRecordEach(tps); err != nil {
		return nil, err
	}
	rss := procStatusMiB(b.pid(), "VmHWM")
	written := rss
	disk, err := diskUse(b.data)
	if err != nil {
		return nil, err
	}
	if err := b.stop(15 * time.Second); err != nil {
		return nil, err
	}
	clean, err := b.start()
	if err != nil {
		return nil, err
	}
	opened := procStatusMiB(b.pid(), "VmHWM")
	asked, err := b.allThere(tps)
	if err != nil {
		return nil, fmt.Errorf("after a clean stop: %w", err)
	}
	// All of them are written to again, so that the kill finds every log in use.
	if err := b.oneRecordEach(tps); err != nil {
		return nil, err
	}
	rss = max(rss, procStatusMiB(b.pid(), "VmHWM"))
	b.kill()
	killed, err := b.start()
	if err != nil {
		return nil, err
	}
	if _, err := b.allThere(tps); err != nil {
		return nil, fmt.Errorf("after kill -9: %w", err)
	}
	rss = max(rss, procStatusMiB(b.pid(), "VmHWM"))
	raw, err := readTree(b.data)
	if err != nil {
		return nil, err
	}
	const rawWhat = "reading every file of the data directory, warm"
	r := newResult()
	r.atMost("open after a clean stop", clean.Seconds(), "s", 5, raw.Seconds(), rawWhat)
	r.atMost("open after kill -9", killed.Seconds(), "s", 10, raw.Seconds(), rawWhat)
	r.atMost("resident memory, the peak", rss, "MiB", 400, 0, "")
	r.atMost("disk", disk, "MiB", 400, 0, "")
	r.Details["created_s"], r.Details["rss_after_writing_mib"], r.Details["rss_after_open_mib"] = created.Seconds(), written, opened
	r.Details["list_offsets_of_all_s"] = asked.Seconds()
	return r, nil
}

func (b *broker) oneRecordEach(tps []tp) error {
	bs, err := pool(16, 1, 100, false, "none")
	if err != nil {
		return err
	}
	p := &producer{targets: tps, pool: bs, conns: 4, inflight: 5, acks: -1, ppr: 1, rounds: 1}
	st, err := p.run(0, 0)
	if err == nil && (len(st.errs) > 0 || st.recs != int64(len(tps))) {
		err = fmt.Errorf("%d of %d records taken, error codes %v", st.recs, len(tps), st.errs)
	}
	return err
}

// allThere opens every log and checks that its record is there.
func (b *broker) allThere(tps []tp) (time.Duration, error) {
	begin := time.Now()
	end, err := listOffsets(tps, -1)
	if err != nil {
		return 0, err
	}
	for x, e := range end {
		if e < 1 {
			return 0, fmt.Errorf("%s/%d ends at %d", x.topic, x.part, e)
		}
	}
	return time.Since(begin), nil
}

// diskUse is what du says, in MiB.
func diskUse(dir string) (mib float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mib += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512 / (1 << 20)
		return nil
	})
	return mib, err
}

func readTree(dir string) (time.Duration, error) {
	begin := time.Now()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
	return time.Since(begin), err
}
