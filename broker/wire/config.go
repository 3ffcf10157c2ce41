package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// What a Config field means when it is left zero.
const (
	DefaultMaxFrame      = 100 << 20 // Kafka's socket.request.max.bytes
	DefaultMaxInFlight   = 100       // 20 times what an idempotent producer may have in flight
	DefaultRequestMemory = 256 << 20 // two frames of the greatest size and some
	DefaultMaxConns      = 10_000    // each costs two goroutines (about 12 KiB) and a descriptor
	DefaultIdleTimeout   = 10 * time.Minute
	DefaultFrameTimeout  = 30 * time.Second
	DefaultWriteTimeout  = 30 * time.Second
)

// minFrame is api key, version and correlation id: no request is shorter.
const minFrame = 8

// Listener is one address to listen on.
type Listener struct {
	Name    string // how logs, errors and Server.Addr call it
	Address string // host:port; port 0 takes any free one
	// ListenNext takes the next free port when Address's is taken.
	ListenNext bool
}

// Limits are what may change while the server runs. Connections that are there stay.
type Limits struct {
	MaxConns      int            // zero: none is let in
	MaxConnsPerIP int            // of one address
	MaxConnsOf    map[string]int // of the address that is the key, instead of MaxConnsPerIP. Read only
	AcceptRate    int            // connections accepted in a second; zero: without limit
}

// Config is what New needs. Zero fields get the defaults above.
type Config struct {
	Listeners []Listener
	// HeaderVersion tells whether (key, version) is served and whether it is flexible (KIP-482),
	// which decides the layout of both headers. Required.
	HeaderVersion func(key, version int16) (flexible, ok bool)

	MaxFrame      int   // bytes of a request after its length word
	MaxInFlight   int   // requests of one connection that are not answered yet; then its reader stops
	RequestMemory int64 // bytes of all frames held at once; MaxFrame <= RequestMemory
	MaxConns      int   // this and the next: as they are at the start, Server.SetLimits changes them
	MaxConnsPerIP int   // zero: MaxConns
	// AdmitDelay is asked for each new connection: above 0 the connection is closed unread after so
	// long. It must not block. May be nil.
	AdmitDelay func(host string) time.Duration

	// IdleTimeout closes a connection with no request in flight and none coming.
	IdleTimeout time.Duration
	// FrameTimeout is how long a started frame may take for each 64 KiB of it; and a frame above
	// 1 MiB as a whole, while others wait for request memory. Then two seconds must show progress.
	FrameTimeout time.Duration
	// WriteTimeout is how long a peer that does not read may keep a reply, for each 64 KiB of it.
	WriteTimeout time.Duration

	// DisableSendfile copies file parts through memory.
	DisableSendfile bool
	Log             *slog.Logger // nil: slog.Default()
}

// Defaults fills the zero fields.
func (c *Config) Defaults() {
	setZero(&c.MaxFrame, DefaultMaxFrame)
	setZero(&c.MaxInFlight, DefaultMaxInFlight)
	setZero(&c.RequestMemory, max(DefaultRequestMemory, int64(c.MaxFrame)))
	setZero(&c.MaxConns, DefaultMaxConns)
	setZero(&c.MaxConnsPerIP, c.MaxConns)
	setZero(&c.IdleTimeout, DefaultIdleTimeout)
	setZero(&c.FrameTimeout, DefaultFrameTimeout)
	setZero(&c.WriteTimeout, DefaultWriteTimeout)
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Validate tells every fault at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Listeners) == 0 {
		bad("no listener")
	}
	names := map[string]bool{}
	for _, l := range c.Listeners {
		if names[l.Name] {
			bad("listener %q is there twice", l.Name)
		}
		names[l.Name] = true
	}
	if c.HeaderVersion == nil {
		bad("header version function is missing")
	}
	if c.MaxFrame < minFrame || c.MaxFrame > math.MaxInt32 {
		bad("max frame %d is outside %d..%d", c.MaxFrame, minFrame, math.MaxInt32)
	}
	if c.RequestMemory < int64(c.MaxFrame) {
		bad("request memory %d is below max frame %d: such a frame could never be read", c.RequestMemory, c.MaxFrame)
	}
	if c.MaxInFlight < 1 || c.MaxConns < 1 || c.MaxConnsPerIP < 1 {
		bad("max in flight %d, max connections %d and per address %d must be at least 1", c.MaxInFlight, c.MaxConns, c.MaxConnsPerIP)
	}
	if c.IdleTimeout <= 0 || c.FrameTimeout <= 0 || c.WriteTimeout <= 0 {
		bad("idle %v, frame %v and write timeout %v must be above 0", c.IdleTimeout, c.FrameTimeout, c.WriteTimeout)
	}
	return errors.Join(errs...)
}

func setZero[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
