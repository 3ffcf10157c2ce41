package broker

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// KeyType is how the text of a key is read.
type KeyType int

// The types of keys. An address is text of the form host:port.
const (
	TypeString KeyType = iota
	TypeAddress
	TypeList
	TypeBool
	TypeInt
	TypeBytes
	TypeBytesPerSecond
	TypeDuration
	TypeFraction
)

func (t KeyType) String() string {
	return [...]string{"string", "host:port", "list", "boolean", "number", "size", "rate", "duration", "fraction"}[t]
}

// Unit names what a plain number of this type counts.
func (t KeyType) Unit() string {
	switch t {
	case TypeBytes:
		return "bytes"
	case TypeBytesPerSecond:
		return "bytes per second"
	case TypeDuration:
		return "ms"
	default:
		return ""
	}
}

// Special is a value outside the bounds that has a meaning of its own.
type Special struct {
	Value   int64
	Meaning string
}

// Key is one configuration key of the broker: the row that flags, the file, the environment,
// DescribeConfigs, configs/reference.yaml and `varve config explain` are made from.
type Key struct {
	Name string
	// Kafka says that name and meaning are Apache Kafka's.
	Kafka bool
	// Topic is the topic key whose broker-wide default this is, or "".
	Topic string
	Type  KeyType
	// Default in the form of a file; "" is an empty string.
	Default string
	// Difference from Kafka 4.2 in default or meaning, one line; "" if there is none.
	Difference string
	// Doc is one line.
	Doc string
	// Flag of `varve serve` without its dashes; "" if it has none.
	Flag string
	// Dynamic keys may change while the broker runs.
	Dynamic bool
	// Values is the closed list of what a string may be; nil means any.
	Values []string
	// Min and Max bound numbers (milliseconds for durations), inclusive.
	Min, Max int64
	Special  []Special

	field func(*Config) any // pointer to the field
}

// Keys lists every key, grouped by theme, in the order of reference.yaml. The caller may not
// change what the entries point to.
func Keys() []Key { return append([]Key(nil), keys...) }

// LookupKey finds a key by name.
func LookupKey(name string) (Key, bool) {
	i, ok := keyIndex[name]
	if !ok {
		return Key{}, false
	}
	return keys[i], true
}

// Env is the environment variable of the key.
func (k *Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Bounds describes what a number may be: "1ms to 7d, or -1 (never)".
func (k *Key) Bounds() string {
	var b strings.Builder
	switch {
	case k.Max == math.MaxInt64 || k.Type == TypeDuration && millis(k.Max) == millis(math.MaxInt64):
		fmt.Fprintf(&b, "%s and more", k.human(k.Min))
	default:
		fmt.Fprintf(&b, "%s to %s", k.human(k.Min), k.human(k.Max))
	}
	for _, s := range k.Special {
		fmt.Fprintf(&b, ", or %d (%s)", s.Value, s.Meaning)
	}
	return b.String()
}

// keys is themes flattened, and keyIndex its index by name.
var (
	keys     []Key
	keyIndex = map[string]int{}
)

func init() {
	for _, t := range themes {
		for _, k := range t.keys {
			k.finish()
			if _, twice := keyIndex[k.Name]; twice {
				panic("broker: key twice in the table: " + k.Name)
			}
			keyIndex[k.Name] = len(keys)
			keys = append(keys, k)
		}
	}
}

// finish fills the bounds that the table leaves out: what the field can hold.
func (k *Key) finish() {
	if k.Max != 0 {
		return
	}
	switch k.field(&Config{}).(type) {
	case *int32:
		k.Max = math.MaxInt32
	case *int64:
		k.Max = math.MaxInt64
	case *time.Duration:
		k.Max = millis(math.MaxInt64).Milliseconds()
	}
}

// theme is a heading of reference.yaml and its keys.
type theme struct {
	title string
	keys  []Key
}

// themes is the one table of keys.
var themes = []theme{
	{"Identity and addresses", identityKeys},
	{"Storage places", placeKeys},
	{"Log output", outputKeys},
	{"Limits of the wire", slices.Concat(wireKeys, dynamicWireKeys)},
	{"Client quotas", quotaConfigKeys},
	{"Defaults of topics", slices.Concat(topicDefaultKeys, dynamicTopicKeys)},
	{"Compaction", slices.Concat(cleanerKeys, cleanerWorkKeys)},
	{"Producers", producerKeys},
	{"Groups and coordinators", groupKeys},
	{"Local disk", diskKeys},
	{"Tiering", tierKeys},
	{"Accepted for Kafka's tools, without effect", inertKeys},
}
