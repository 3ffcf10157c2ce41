package broker

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// onStep is called at the named steps of roll, upload, manifest, commit, local delete and recycle.
// With VARVE_CRASH_STEP=name:n the n-th time that step is reached the process kills itself with
// SIGKILL, as a power button would: the crash test of integration/ uses it. It costs one atomic
// load otherwise.
var onStep = newStepKiller(os.Getenv("VARVE_CRASH_STEP"))

func newStepKiller(spec string) func(string) {
	name, count, _ := strings.Cut(spec, ":")
	if name == "" {
		return func(string) {}
	}
	left := int64(1)
	if len(count) > 0 {
		left = 0
		for _, r := range count {
			left = left*10 + int64(r-'0')
		}
	}
	var n atomic.Int64
	n.Store(left)
	return func(step string) {
		if step == name && n.Add(-1) == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail for our own pid
			time.Sleep(time.Minute)                        // nothing of this step may go on
		}
	}
}
