package main

import (
	"bufio"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"
)

// ackedAt is where a record was acknowledged to be.
type ackedAt struct {
	part int32
	off  int64
}

// acked is one acknowledged record and what was found of it.
type acked struct {
	ackedAt
	crc         uint32
	seen, right bool
}

// readAcked reads the file that failover wrote, by key; all keys of a run begin with its name.
func readAcked(path string) (wants map[string]*acked, run string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	wants = map[string]*acked{}
	sc := bufio.NewScanner(file)
	for sc.Scan() {
		var w acked
		var key string
		if _, err := fmt.Sscanf(sc.Text(), "%d %d %s %x", &w.part, &w.off, &key, &w.crc); err != nil {
			return nil, "", fmt.Errorf("%q: %w", sc.Text(), err)
		}
		wants[key] = &w
		run, _, _ = strings.Cut(key, "-")
	}
	return wants, run, sc.Err()
}

// verifyCmd checks that each record of an -acked file is in the log at its offset, once, unchanged.
func verifyCmd(fs *flag.FlagSet) func() (obj, error) {
	ackedFile := fs.String("acked", "", "the file that kbench failover wrote")
	return func() (obj, error) {
		wants, run, err := readAcked(*ackedFile)
		if err != nil {
			return nil, err
		}
		tps, err := metadata(brokers, topic)
		if err != nil {
			return nil, err
		}
		start, err := listOffsets(tps, -2)
		if err != nil {
			return nil, err
		}
		end, err := listOffsets(tps, -1)
		if err != nil {
			return nil, err
		}
		var mu sync.Mutex
		var walk error
		var total, unacked, duplicated, changed, moved, foreign, lost int64
		f := &fetcher{meter: meter{pids: pids}, groups: consumers(tps, len(tps), start, end), maxBytes: 50 << 20, partMax: 1 << 20, minBytes: 1, maxWait: 500, verify: true}
		once := map[string]bool{} // unacked tries must not come twice either
		f.onBatch = func(p *fpart, b []byte) {
			mu.Lock()
			defer mu.Unlock()
			err := eachRecord(b, func(off int64, v []byte) {
				total++
				key, _, _ := strings.Cut(string(v), " ")
				w := wants[key]
				switch {
				case w == nil && !strings.HasPrefix(key, run+"-"):
					foreign++
				case w == nil:
					unacked++
					if once[key] {
						duplicated++
					}
					once[key] = true
				case w.seen:
					duplicated++
					w.right = w.right || w.ackedAt == (ackedAt{p.part, off})
				default:
					w.seen, w.right = true, w.ackedAt == ackedAt{p.part, off}
					if crc32.Checksum(v, castagnoli) != w.crc {
						changed++
					}
				}
			})
			if err != nil {
				walk = err
			}
		}
		st, err := f.run(0, 0, nil)
		if err != nil {
			return nil, err
		}
		for _, w := range wants {
			if !w.seen {
				lost++
			} else if !w.right {
				moved++
			}
		}
		if walk != nil {
			return nil, walk
		}
		o := obj{
			"acked": len(wants), "in_log": total, "lost": lost, "duplicated": duplicated, "changed": changed, "moved": moved,
			"unacked_in_log": unacked, "foreign": foreign, "crc_bad": st.crcBad, "offset_gaps": st.gaps, "errors": st.errs,
		}
		o["ok"] = lost+duplicated+changed+moved+st.crcBad+st.gaps == 0 && len(st.errs) == 0
		return o, nil
	}
}
