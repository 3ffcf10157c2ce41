package meta

import (
	"strconv"
	"strings"
)

// TopicDefaults turns broker configs (log.retention.hours, message.max.bytes, ...) into the topic
// configs whose default they give, for Effective and ConfigCheck. Of several synonyms of a key the
// most specific wins, as in Kafka. Values that the topic config would refuse are left out.
func TopicDefaults(broker map[string]string) map[string]string {
	defaults := map[string]string{}
	for _, k := range topicConfigKeys {
		for _, name := range k.Synonyms {
			value, ok := broker[name]
			if !ok {
				continue
			}
			if value, ok = inMilliseconds(name, value); ok && k.Check(value) == nil {
				defaults[k.Name] = value
				break
			}
		}
	}
	return defaults
}

// inMilliseconds converts the synonyms that count hours or minutes.
func inMilliseconds(name, value string) (string, bool) {
	factor := int64(1)
	switch {
	case strings.HasSuffix(name, ".hours"):
		factor = 3_600_000
	case strings.HasSuffix(name, ".minutes"):
		factor = 60_000
	default:
		return value, true
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32) // 32 bits in Kafka too: no overflow below
	if err != nil {
		return "", false
	}
	if n < 0 {
		return "-1", true
	}
	return strconv.FormatInt(n*factor, 10), true
}
