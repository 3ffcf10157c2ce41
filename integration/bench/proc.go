package main

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hist is a log-linear histogram of nanoseconds, under 0.8% error.
type hist struct {
	n, max int64
	sum    float64
	b      [58 * 128]uint32
}

func bucketOf(v int64) int {
	if v < 128 {
		return int(max(v, 0))
	}
	s := bits.Len64(uint64(v)) - 8
	return (s+1)*128 + int(v>>s) - 128
}

func (h *hist) add(d time.Duration) {
	v := int64(d)
	h.n++
	h.sum += float64(v)
	h.max = max(h.max, v)
	h.b[bucketOf(v)]++
}

func (h *hist) merge(o *hist) {
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
	for i, c := range o.b {
		h.b[i] += c
	}
}

// ms is the q quantile in milliseconds (upper edge of its bucket).
func (h *hist) ms(q float64) float64 {
	want, seen := int64(q*float64(h.n)+0.5), int64(0)
	for i, c := range h.b {
		if seen += int64(c); c > 0 && seen >= max(want, 1) {
			v := int64(i)
			if i >= 128 {
				s := i/128 - 1
				v = int64(i%128+129)<<s - 1
			}
			return float64(min(v, h.max)) / 1e6
		}
	}
	return 0
}

func (h *hist) report() obj {
	return obj{
		"n": h.n, "mean": h.sum / float64(max(h.n, 1)) / 1e6, "p50": h.ms(.5), "p95": h.ms(.95),
		"p99": h.ms(.99), "p999": h.ms(.999), "max": float64(h.max) / 1e6,
	}
}

const tick = 100 // USER_HZ

// procCPU returns the user and system seconds of a process, all its threads.
func procCPU(pid int) (user, sys float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	u, _ := strconv.ParseFloat(f[11], 64)
	s, _ := strconv.ParseFloat(f[12], 64)
	return u / tick, s / tick
}

func procStatusMiB(pid int, key string) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), key+":")
	if f := strings.Fields(rest); len(f) > 0 {
		kb, _ := strconv.ParseFloat(f[0], 64)
		return kb / 1024
	}
	return 0
}

func procFDs(pid int) int {
	e, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(e)
}

// machineCPU returns the machine's busy seconds (all CPUs, kernel threads and interrupts included) and steal.
func machineCPU() (busy, steal float64) {
	b, _ := os.ReadFile("/proc/stat")
	f := strings.Fields(strings.SplitN(string(b), "\n", 2)[0])
	for i, s := range f[1:] {
		v, _ := strconv.ParseFloat(s, 64)
		switch i {
		case 0, 1, 2, 5, 6:
			busy += v / tick
		case 7:
			steal = v / tick
		}
	}
	return
}

func clientCPU() (user, sys float64) {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()) / 1e9, float64(r.Stime.Nano()) / 1e9
}

type cpuMark struct {
	at                         time.Time
	cu, cs, bu, bs, all, steal float64
}

func mark(pids []int) (m cpuMark) {
	m.at = time.Now()
	m.cu, m.cs = clientCPU()
	for _, p := range pids {
		u, s := procCPU(p)
		m.bu, m.bs = m.bu+u, m.bs+s
	}
	m.all, m.steal = machineCPU()
	return
}

// meter takes what client, broker and the rest of the machine use between start and stop.
type meter struct {
	pids     []int // of the broker
	from, to cpuMark
}

func (m *meter) start() {
	for _, p := range m.pids { // resets VmHWM, so that the peak is this run's own
		os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p), []byte("5"), 0)
	}
	m.from = mark(m.pids)
}
func (m *meter) stop()            { m.to = mark(m.pids) }
func (m *meter) seconds() float64 { return m.to.at.Sub(m.from.at).Seconds() }

// report gives the usage and, for the work done meanwhile, the rates.
func (m *meter) report(bytes, recs, reqs int64) obj {
	a, b, s := m.from, m.to, m.seconds()
	cu, cs, bu, bs := b.cu-a.cu, b.cs-a.cs, b.bu-a.bu, b.bs-a.bs
	o := obj{
		"seconds": s, "client_cpu_s": cu + cs, "client_user_s": cu, "client_sys_s": cs,
		"other_cpu_s": b.all - a.all - cu - cs - bu - bs, "steal_s": b.steal - a.steal,
	}
	if bytes+recs+reqs > 0 {
		o["bytes"], o["records"], o["requests"] = bytes, recs, reqs
		o["mb_per_s"], o["records_per_s"], o["requests_per_s"] = float64(bytes)/1e6/s, float64(recs)/s, float64(reqs)/s
	}
	if len(m.pids) == 0 {
		return o
	}
	var peak, rss float64
	for _, p := range m.pids {
		peak, rss = peak+procStatusMiB(p, "VmHWM"), rss+procStatusMiB(p, "VmRSS")
	}
	o["broker_cpu_s"], o["broker_user_s"], o["broker_sys_s"] = bu+bs, bu, bs
	o["broker_cpu_pct"], o["broker_peak_rss_mib"], o["broker_rss_mib"] = (bu+bs)/s*100, peak, rss
	if bytes > 0 {
		o["broker_cpu_s_per_gib"] = (bu + bs) / (float64(bytes) / (1 << 30))
		o["client_cpu_s_per_gib"] = (cu + cs) / (float64(bytes) / (1 << 30))
	}
	if reqs > 0 {
		o["broker_cpu_s_per_mreq"] = (bu + bs) / (float64(reqs) / 1e6)
	}
	return o
}

// settle adds the CPU that the broker still uses in the s seconds after the run (flushes, uploads, compaction).
func (m *meter) settle(o obj, s float64) {
	if s > 0 && len(m.pids) > 0 {
		time.Sleep(seconds(s))
		now := mark(m.pids)
		o["broker_settle_cpu_s"] = now.bu + now.bs - m.to.bu - m.to.bs
	}
}

func merge(dst obj, src obj) obj {
	for k, v := range src {
		dst[k] = v
	}
	return dst
}

// meminfo reads a line of /proc/meminfo, in bytes.
func meminfo(key string) int {
	b, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(b), key+":")
	if f := strings.Fields(rest); len(f) > 0 {
		kb, _ := strconv.Atoi(f[0])
		return kb << 10
	}
	return 0
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(b), "model name\t: ")
	name, _, _ := strings.Cut(rest, "\n")
	return name
}
