package admin

import (
	"net/http"
	"strings"
)

// ReadyReport says whether the broker can serve clients, check by check.
type ReadyReport struct{ Checks []Check }

// Check is one line of a ReadyReport. A check that is not OK makes the broker not ready, unless it
// is only Degraded: an object store that is down stops no producer, and taking the broker out of
// service for it would.
type Check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Degraded bool   `json:"degraded,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Add adds a check with the detail for either outcome.
func (r *ReadyReport) Add(name string, ok bool, good, bad string) {
	detail := good
	if !ok {
		detail = bad
	}
	r.Checks = append(r.Checks, Check{Name: name, OK: ok, Detail: detail})
}

// AddDegraded adds a check that never makes the broker not ready.
func (r *ReadyReport) AddDegraded(name string, ok bool, detail string) {
	r.Checks = append(r.Checks, Check{Name: name, OK: ok, Degraded: !ok, Detail: detail})
}

// Status is "not ready" if a check failed, else "degraded" if one is, else "ready".
func (r *ReadyReport) Status() string {
	status := "ready"
	for _, c := range r.Checks {
		switch {
		case !c.OK && !c.Degraded:
			return "not ready"
		case !c.OK:
			status = "degraded"
		}
	}
	return status
}

// readyz answers 200 or 503. With verbose it lists every check, else only what is wrong.
func readyz(w http.ResponseWriter, r *http.Request, report ReadyReport) {
	code, status := http.StatusOK, report.Status()
	if status == "not ready" {
		code = http.StatusServiceUnavailable
	}
	verbose := r.URL.Query().Has("verbose")
	if wantsJSON(r) {
		writeJSON(w, code, struct {
			Status string  `json:"status"`
			Checks []Check `json:"checks"`
		}{status, append([]Check{}, report.Checks...)})
		return
	}
	var b strings.Builder
	for _, c := range report.Checks {
		if c.OK && !verbose {
			continue
		}
		mark := "[+] "
		switch {
		case c.Degraded:
			mark = "[~] "
		case !c.OK:
			mark = "[-] "
		}
		b.WriteString(mark + c.Name)
		if c.Detail != "" {
			b.WriteString(": " + c.Detail)
		}
		b.WriteByte('\n')
	}
	b.WriteString(status + "\n")
	writeText(w, code, b.String())
}
