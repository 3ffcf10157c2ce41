package broker

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"varve/tiering/object"
)

// Validate tells every fault of the configuration at once, as a Faults.
func (c *Config) Validate() error {
	if f := c.faults(); len(f) > 0 {
		return f
	}
	return nil
}

func (c *Config) faults() Faults {
	var f faultList
	for i := range keys {
		k := &keys[i]
		if err := k.check(c); err != nil {
			f.add(c, k.Name, "%v", err)
		}
	}
	c.checkAddresses(&f)
	c.checkSizes(&f)
	c.checkStore(&f)
	c.checkGroups(&f)
	c.checkDynamic(&f)
	if err := object.CheckStorageClass(c.TierStorageClass); err != nil {
		f.add(c, "varve.tier.storage.class", "%v", err)
	}
	return f.faults
}

// check is the bounds of one key for a value that did not come through parseInto.
func (k *Key) check(c *Config) error {
	switch p := k.field(c).(type) {
	case *string:
		return k.checkText(*p)
	case *time.Duration:
		return k.checkNumber(p.Milliseconds())
	case *int64:
		return k.checkNumber(*p)
	case *int32:
		return k.checkNumber(int64(*p))
	case *float64:
		return k.checkFraction(*p)
	}
	return nil
}

type faultList struct{ faults Faults }

func (f *faultList) add(c *Config, key, format string, args ...any) {
	where := Setting{Origin: c.origin[key]}.where()
	f.faults = append(f.faults, Fault{Key: key, Where: where, Problem: fmt.Sprintf(format, args...)})
}

func (c *Config) checkAddresses(f *faultList) {
	users := make(map[string]string)
	for _, a := range []struct{ key, address string }{
		{"listen", c.Listen},
		{"admin.listen", c.AdminListen},
		{"internal.listen", c.InternalListen},
		{"gossip.listen", c.GossipListen},
	} {
		if a.key == "gossip.listen" && a.address == "" {
			continue // gossip is off
		}
		if err := checkHostPort(a.address, true); err != nil {
			f.add(c, a.key, "%v", err)
			continue
		}
		if _, port, _ := net.SplitHostPort(a.address); port == "0" {
			continue
		}
		if other, taken := users[a.address]; taken {
			f.add(c, a.key, "%s is already the address of %s", a.address, other)
		}
		users[a.address] = a.key
	}
	if c.AdvertisedListen != "" {
		if err := checkHostPort(c.AdvertisedListen, true); err != nil {
			f.add(c, "advertised.listen", "%v", err)
		} else if isWildcard(c.AdvertisedListen) {
			f.add(c, "advertised.listen", "clients cannot connect to %s; name a host that they reach", c.AdvertisedListen)
		}
	} else if isWildcard(c.Listen) {
		f.add(c, "advertised.listen", "required when listen is %s, because clients cannot connect to that", c.Listen)
	}
	for _, seed := range c.Seeds {
		if err := checkHostPort(seed, false); err != nil {
			f.add(c, "seeds", "%v", err)
		}
	}
	if c.BootstrapExpect%2 == 0 && c.BootstrapExpect > 0 {
		f.add(c, "bootstrap.expect", "%d is not 1, 3 or 5", c.BootstrapExpect)
	}
}

func checkHostPort(address string, zeroPort bool) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port", clip(address))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !zeroPort {
		return fmt.Errorf("%q has no valid port", clip(address))
	}
	if host == "" {
		return fmt.Errorf("%q names no host; write 0.0.0.0%s for every interface", clip(address), ":"+port)
	}
	if len(host) > 253 || strings.ContainsAny(host, " /@?#\t") {
		return fmt.Errorf("%q has no valid host", clip(address))
	}
	return nil
}

// isWildcard tells whether an address means every interface.
func isWildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// BeyondLoopback lists the keys whose address others than this machine can reach.
func (c *Config) BeyondLoopback() []string {
	var out []string
	for _, a := range []struct{ key, address string }{
		{"listen", c.Listen},
		{"admin.listen", c.AdminListen},
		{"internal.listen", c.InternalListen},
		{"gossip.listen", c.GossipListen},
	} {
		host, _, err := net.SplitHostPort(a.address)
		if err != nil || host == "localhost" {
			continue
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			out = append(out, a.key)
		}
	}
	return out
}

func (c *Config) checkSizes(f *faultList) {
	if strings.TrimSpace(c.DataDir) == "" {
		f.add(c, "data.dir", "must not be empty")
	}
	if c.QueuedMaxRequestBytes < c.SocketRequestMaxBytes {
		f.add(c, "queued.max.request.bytes", "%s is less than socket.request.max.bytes (%s), so the largest request could never be read",
			FormatSize(c.QueuedMaxRequestBytes), FormatSize(c.SocketRequestMaxBytes))
	}
	if c.MessageMaxBytes > c.SocketRequestMaxBytes {
		f.add(c, "message.max.bytes", "%s is more than socket.request.max.bytes (%s), so the largest batch could never be sent",
			FormatSize(c.MessageMaxBytes), FormatSize(c.SocketRequestMaxBytes))
	}
	if c.LogLocalRetention != FollowTotalTime && !within(c.LogLocalRetention.Milliseconds(), c.LogRetention.Milliseconds()) {
		f.add(c, "log.local.retention.ms", "%s is more than log.retention.ms (%s)", FormatMillis(c.LogLocalRetention), FormatMillis(c.LogRetention))
	}
	if c.LogLocalRetentionBytes != FollowTotalBytes && !within(c.LogLocalRetentionBytes, c.LogRetentionBytes) {
		f.add(c, "log.local.retention.bytes", "%s is more than log.retention.bytes (%s)", FormatSize(c.LogLocalRetentionBytes), FormatSize(c.LogRetentionBytes))
	}
}

// within is local <= total where -1 means without limit.
func within(local, total int64) bool {
	return total == -1 || local != -1 && local <= total
}

func (c *Config) checkStore(f *faultList) {
	if c.Store == "" {
		if c.TierDefault {
			f.add(c, "varve.tier.default", "true needs a store; set store")
		}
		return
	}
	u, err := url.Parse(c.Store)
	if err != nil {
		f.add(c, "store", "not a URL such as dir:///path or s3://bucket/prefix") // err would repeat the value, which may hold a secret
		return
	}
	switch {
	case u.User != nil:
		f.add(c, "store", "credentials do not belong into the URL; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or store.credentials.file")
	case u.Scheme == "dir" && (u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		f.add(c, "store", "%q has no absolute path; write dir:///path, with three slashes", clip(c.Store))
	case u.Scheme == "s3" && u.Host == "":
		f.add(c, "store", "%q names no bucket; write s3://bucket/prefix?endpoint=...", clip(c.Store))
	case u.Scheme != "dir" && u.Scheme != "s3" && u.Scheme != "mem":
		f.add(c, "store", "%q is neither dir:///path nor s3://bucket/prefix", clip(c.Store))
	}
}
