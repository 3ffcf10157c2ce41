package harness

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports below the range that systems give to outgoing connections: a port that a broker has left
// for a restart is then not taken by somebody's client in between.
const (
	firstPort = 18000
	lastPort  = 31999
)

// FreeAddresses finds n loopback addresses that nobody listens on, each another.
func FreeAddresses(n int) ([]string, error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	var out []string
	for range 1000 {
		if len(out) == n {
			return out, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		open = append(open, l) // held until all are found, so that none is found twice
		out = append(out, l.Addr().String())
	}
	return nil, errors.New("no free loopback ports")
}
