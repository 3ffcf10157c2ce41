package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitMemory gives the Go runtime a soft limit of three quarters of the machine, or of its
// control group, unless GOMEMLIMIT says otherwise: near it the collector works harder instead of
// the kernel killing the broker. The last quarter is page cache, which tail reads live on.
func limitMemory(gomemlimit string) {
	if gomemlimit != "" {
		return // the runtime has read it
	}
	if total := machineMemory(); total > 0 {
		debug.SetMemoryLimit(total / 4 * 3)
	}
}

// collectorPercent is how much garbage may gather beside what is in use, in percent of it. The request
// path makes next to none, so with Go's 100 resident memory would drift upwards for minutes after a
// start; with a tenth a collection of a few milliseconds every few seconds keeps it where it is.
const collectorPercent = 10

// paceCollector keeps resident memory near what is in use, unless GOGC says otherwise.
func paceCollector(gogc string) {
	if gogc == "" {
		debug.SetGCPercent(collectorPercent)
	}
}

// machineMemory is the smaller of physical memory and the control group's limit, 0 if unknown.
func machineMemory() int64 {
	total := int64(0)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		total = memTotal(text)
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && (total == 0 || n < total) {
			total = n
		}
	}
	return total
}

// memTotal reads the line "MemTotal:  24689152 kB" of /proc/meminfo.
func memTotal(meminfo []byte) int64 {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err == nil && n > 0 && n < 1<<50 {
				return n * 1024
			}
		}
	}
	return 0
}
