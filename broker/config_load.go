package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	envPrefix = "VARVE_"
	// maxFileBytes bounds a configuration file; the reference with every key is some 15 KiB.
	maxFileBytes = 1 << 20
)

// OriginKind ranks what can set a key; a higher one wins.
type OriginKind int

// The kinds, weakest first.
const (
	OriginDefault  OriginKind = iota
	OriginDev                 // --dev
	OriginFile                // -c FILE
	OriginEnv                 // VARVE_...
	OriginOverride            // -X key=value
	OriginFlag                // a flag of its own
)

// Origin is what set one key.
type Origin struct {
	Kind   OriginKind
	Detail string // file:line, the variable, or the flag
}

func (o Origin) String() string {
	switch o.Kind {
	case OriginDefault:
		return "default"
	case OriginDev:
		return "default of --dev"
	case OriginFile:
		return "file " + o.Detail
	case OriginEnv:
		return "environment " + o.Detail
	case OriginOverride:
		return "-X " + o.Detail
	case OriginFlag:
		return "flag " + o.Detail
	}
	return fmt.Sprintf("origin %d", int(o.Kind))
}

// Setting is one value that some source offers for a key.
type Setting struct {
	Key    string
	Value  string
	Origin Origin
}

// where is how a fault in this setting is pointed at.
func (s Setting) where() string {
	switch s.Origin.Kind {
	case OriginFile, OriginEnv, OriginFlag:
		return s.Origin.Detail
	case OriginOverride:
		return "-X"
	default:
		return ""
	}
}

// Sources is everything that can set a key. A zero Sources gives the defaults.
type Sources struct {
	Flags map[string]string // by key, only those that the user gave
	Sets  []string          // -X key=value, in order; the last of a key wins
	Env   []string          // as os.Environ gives it
	File  string            // "" for none
	Dev   bool
}

// Load builds the configuration from its sources: flag > -X > environment > file > default. The
// error, if any, is a Faults with everything that is wrong in any of them.
func Load(src Sources) (Config, error) {
	c, _, err := LoadExplained(src)
	return c, err
}

// LoadExplained is Load that also gives every setting offered, strongest first within a key, for
// `varve config explain`.
func LoadExplained(src Sources) (Config, []Setting, error) {
	settings, faults := src.settings()
	c := DefaultConfig()
	c.Dev = src.Dev
	c.origin = make(map[string]Origin)
	for _, s := range settings { // weakest first
		k := &keys[keyIndex[s.Key]]
		if err := k.parseInto(&c, s.Value); err != nil {
			faults = append(faults, Fault{Key: s.Key, Where: s.where(), Problem: err.Error()})
			continue
		}
		c.origin[s.Key] = s.Origin
	}
	if src.Dev && c.origin[initialDelayKey].Kind == OriginDefault {
		c.GroupInitialDelay, c.origin[initialDelayKey] = 0, Origin{Kind: OriginDev}
	}
	if src.Dev && c.origin["store"].Kind == OriginDefault {
		if dir, err := filepath.Abs(filepath.Join(c.DataDir, "bucket")); err == nil {
			c.Store = "dir://" + filepath.ToSlash(dir)
			c.origin["store"] = Origin{Kind: OriginDev}
		}
	}
	if len(faults) == 0 { // a half-parsed configuration has faults that are only consequences
		faults = c.faults()
	}
	if len(faults) > 0 {
		faults.sort()
		return Config{}, nil, faults
	}
	reverse(settings)
	return c, settings, nil
}

func reverse(s []Setting) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}

// settings collects what every source offers for known keys, weakest source first.
func (src Sources) settings() ([]Setting, Faults) {
	var all []Setting
	var faults Faults
	if src.File != "" {
		fromFile, f := readFile(src.File)
		all, faults = append(all, fromFile...), append(faults, f...)
	}
	fromEnv, f := readEnv(src.Env)
	all, faults = append(all, fromEnv...), append(faults, f...)
	for _, set := range src.Sets {
		name, value, ok := strings.Cut(set, "=")
		name = strings.TrimSpace(name)
		if _, known := keyIndex[name]; !ok {
			faults = append(faults, Fault{Where: "-X", Problem: fmt.Sprintf("%q is not of the form key=value", clip(set))})
		} else if !known {
			faults = append(faults, unknownKey(name, "-X"))
		} else {
			all = append(all, Setting{name, value, Origin{OriginOverride, name + "=" + clip(value)}})
		}
	}
	for i := range keys {
		if value, ok := src.Flags[keys[i].Name]; ok {
			all = append(all, Setting{keys[i].Name, value, Origin{OriginFlag, "--" + keys[i].Flag}})
		}
	}
	return all, faults
}

func readFile(name string) ([]Setting, Faults) {
	f, err := os.Open(name)
	if err != nil {
		return nil, Faults{{Problem: fmt.Sprintf("open configuration file: %v", err)}}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, Faults{{Problem: fmt.Sprintf("read configuration file: %v", err)}}
	case len(text) > maxFileBytes:
		return nil, Faults{{Where: name, Problem: fmt.Sprintf("longer than %d bytes", maxFileBytes)}}
	}
	return ParseFile(name, text)
}

// readEnv takes the variables that name a key. A VARVE_ variable that names none is a fault only
// if it is nearly one: Kubernetes and test runners set VARVE_ variables of their own.
func readEnv(env []string) ([]Setting, Faults) {
	var all []Setting
	var faults Faults
	byVariable := make(map[string]string, len(keys))
	for i := range keys {
		byVariable[keys[i].Env()] = keys[i].Name
	}
	for _, entry := range env {
		variable, value, ok := strings.Cut(entry, "=")
		if !ok || !strings.HasPrefix(variable, envPrefix) {
			continue
		}
		if key, known := byVariable[variable]; known {
			all = append(all, Setting{key, value, Origin{OriginEnv, variable}})
			continue
		}
		guess := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, envPrefix), "_", "."))
		if near, distance := nearestKey(guess); distance <= 1+len(near)/12 {
			k := &keys[keyIndex[near]]
			faults = append(faults, Fault{Where: variable, Problem: "no such key; did you mean " + k.Env() + "?"})
		}
	}
	return all, faults
}

// errFile is why a file could not be read as a flat map.
var errFile = errors.New("not a flat YAML map of key: value")
