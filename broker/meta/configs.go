package meta

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ConfigType is the type of a config value, with the numbers of Kafka's DescribeConfigs.
type ConfigType int8

// The types that topic configs have.
const (
	ConfigBoolean ConfigType = 1
	ConfigString  ConfigType = 2
	ConfigInt     ConfigType = 3
	ConfigLong    ConfigType = 5
	ConfigDouble  ConfigType = 6
	ConfigList    ConfigType = 7
)

// ConfigKey describes one topic config.
type ConfigKey struct {
	Name    string
	Type    ConfigType
	Default string
	// KafkaDefault is Kafka 4.2's default where it is not Default.
	KafkaDefault string
	// Valid says in words what values are allowed; empty means all of the type.
	Valid string
	// Synonyms are the broker configs that give the cluster's default, most specific first.
	Synonyms []string
	// NoEffect says why the key, which is accepted and kept, changes nothing here; else empty.
	NoEffect string

	doc   string
	check func(value string) error // on top of the type; may be nil
}

// Doc is the documentation of the key, in sentences.
func (k ConfigKey) Doc() string {
	if k.NoEffect == "" {
		return k.doc
	}
	return k.doc + " No effect here: " + k.NoEffect + "."
}

// Check tells whether value is one that the key takes.
func (k ConfigKey) Check(value string) error {
	value = strings.TrimSpace(value)
	switch k.Type {
	case ConfigBoolean:
		if !strings.EqualFold(value, "true") && !strings.EqualFold(value, "false") {
			return errors.New("want true or false")
		}
	case ConfigInt:
		if _, err := strconv.ParseInt(value, 10, 32); err != nil {
			return errors.New("want a whole number of 32 bits")
		}
	case ConfigLong:
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return errors.New("want a whole number of 64 bits")
		}
	case ConfigDouble:
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return errors.New("want a number")
		}
	case ConfigString, ConfigList:
	}
	if k.check == nil {
		return nil
	}
	return k.check(value)
}

// LabelPrefix starts the keys of labels: varve.label.team=payments is shown in cost reports.
const LabelPrefix = "varve.label."

// topicConfigIndex is topicConfigKeys by name.
var topicConfigIndex = func() map[string]ConfigKey {
	index := make(map[string]ConfigKey, len(topicConfigKeys))
	for _, k := range topicConfigKeys {
		index[k.Name] = k
	}
	return index
}()

// TopicConfigKeys lists every topic config by name. Labels are not listed: their names are free.
func TopicConfigKeys() []ConfigKey {
	keys := slices.Clone(topicConfigKeys)
	slices.SortFunc(keys, func(a, b ConfigKey) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// TopicConfigKey finds the description of a key, of varve.label.<name> too.
func TopicConfigKey(name string) (ConfigKey, bool) {
	if label, ok := strings.CutPrefix(name, LabelPrefix); ok && validLabel(label) {
		return labelKey(name), true
	}
	k, ok := topicConfigIndex[name]
	return k, ok
}

// ConfigFault is what is wrong with one key.
type ConfigFault struct {
	Key    string
	Value  string
	Reason string
}

func (f ConfigFault) String() string {
	if f.Value == "" {
		return fmt.Sprintf("%.128s: %s", f.Key, f.Reason)
	}
	return fmt.Sprintf("%.128s=%.100s: %s", f.Key, f.Value, f.Reason)
}

// ConfigError is every fault of a set of configs; Kafka answers INVALID_CONFIG with its text.
type ConfigError struct{ Faults []ConfigFault }

func (e *ConfigError) Error() string {
	lines := make([]string, 0, len(e.Faults))
	for _, f := range e.Faults {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "; ")
}

// ConfigCheck is a set of topic configs and what they are checked against.
type ConfigCheck struct {
	// New are the configs that the topic would have; Old those that it has, nil at creation.
	New, Old map[string]string
	// Defaults are the cluster's values of keys that the topic does not set.
	Defaults map[string]string
	// NoStore says that this cluster has no object store, so nothing can be tiered.
	NoStore bool
}

// ValidateTopicConfigs checks the configs of a new topic in a cluster that has an object store.
func ValidateTopicConfigs(configs map[string]string) error {
	return ConfigCheck{New: configs}.Validate()
}

// Validate checks names, values and how they go together. The error is a *ConfigError with every
// fault, in key order.
func (c ConfigCheck) Validate() error {
	var faults []ConfigFault
	labels := 0
	for _, name := range slices.Sorted(maps.Keys(c.New)) {
		key, ok := TopicConfigKey(name)
		if !ok {
			faults = append(faults, ConfigFault{Key: name, Reason: unknownKeyReason(name)})
			continue
		}
		if strings.HasPrefix(name, LabelPrefix) {
			labels++
		}
		if err := key.Check(c.New[name]); err != nil {
			faults = append(faults, ConfigFault{name, c.New[name], err.Error()})
		}
	}
	if labels > maxLabels {
		faults = append(faults, ConfigFault{Key: LabelPrefix + "*", Reason: fmt.Sprintf("%d labels, at most %d are allowed", labels, maxLabels)})
	}
	if len(faults) == 0 { // values that do not parse say nothing about each other
		faults = c.crossFaults()
	}
	if len(faults) > 0 {
		return &ConfigError{faults}
	}
	return nil
}

// Labels of one topic become labels of metrics and cost rows: a topic with hundreds is a mistake.
const (
	maxLabels     = 16
	maxLabelName  = 64
	maxLabelValue = 128
)

func validLabel(name string) bool {
	if name == "" || len(name) > maxLabelName {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' || r == '.')
	})
}

func labelKey(name string) ConfigKey {
	return ConfigKey{
		Name: name, Type: ConfigString,
		Valid: fmt.Sprintf("at most %d printable characters", maxLabelValue),
		doc:   "A label of the topic, shown in lists and used to group cost reports.",
		check: func(v string) error {
			if len(v) > maxLabelValue || strings.ContainsFunc(v, func(r rune) bool { return !strconv.IsPrint(r) }) {
				return fmt.Errorf("want at most %d printable characters", maxLabelValue)
			}
			return nil
		},
	}
}
