package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// plainEvery is how often progress is a line where there is no terminal.
const plainEvery = 10 * time.Second

// progress shows how far one act has come: a bar on a terminal, now and then a line elsewhere. It
// belongs to one goroutine.
type progress struct {
	out   io.Writer
	act   string
	total int64
	bar   *progressbar.ProgressBar // nil without a terminal
	last  time.Time                // of the last plain line
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// newProgress begins an act of total bytes. With rate it shows bytes a second and the time left.
func newProgress(out io.Writer, act string, total int64, rate bool) *progress {
	p := &progress{out: out, act: act, total: total, last: time.Now()}
	if isTerminal(out) {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(actName(act)), progressbar.OptionShowBytes(rate),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(rate),
			progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true))
	}
	return p
}

// set tells how much is done now.
func (p *progress) set(done int64) {
	if p.bar != nil {
		_ = p.bar.Set64(min(done, p.total)) // a terminal that is gone is no reason to stop
		return
	}
	if now := time.Now(); now.Sub(p.last) >= plainEvery && p.total > 0 {
		p.last = now
		fmt.Fprintf(p.out, "%s %d %%\n", actName(p.act), min(done, p.total)*100/p.total)
	}
}

// finish replaces the bar by the line that says what the act came to.
func (p *progress) finish(format string, args ...any) {
	p.clear()
	fmt.Fprintf(p.out, "%s %s\n", actName(p.act), fmt.Sprintf(format, args...))
}

// clear removes the bar, before anything else is printed.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}

func actName(act string) string { return fmt.Sprintf("%-8s", act) }
