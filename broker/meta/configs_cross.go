package meta

import (
	"fmt"
	"strconv"
	"strings"
)

// crossFaults checks what keys say together, in the words of Kafka where Kafka has the rule. Every
// value has passed its own check.
func (c ConfigCheck) crossFaults() []ConfigFault {
	v := configValues{c.New, c.Defaults}
	var faults []ConfigFault
	add := func(key, format string, args ...any) {
		faults = append(faults, ConfigFault{key, v.get(key), fmt.Sprintf(format, args...)})
	}
	if v.long("min.compaction.lag.ms") > v.long("max.compaction.lag.ms") {
		add("min.compaction.lag.ms", "must not be above max.compaction.lag.ms=%s", v.get("max.compaction.lag.ms"))
	}
	if !v.boolean(keyRemote) {
		wasTiered := configValues{c.Old, c.Defaults}.boolean(keyRemote)
		if wasTiered && c.Old != nil && !v.boolean("remote.log.delete.on.disable") {
			add(keyRemote, "turning tiering off deletes the tiered data: set remote.log.delete.on.disable=true as well,"+
				" or keep the data readable with remote.storage.enable=true and remote.log.copy.disable=true")
		}
		return faults
	}
	if c.NoStore {
		add(keyRemote, "no object store is configured: start the brokers with --store to tier topics")
	}
	if contains(v.list("cleanup.policy"), "compact") {
		add(keyRemote, "tiering a compacted topic is not supported yet: use cleanup.policy=delete, or leave remote.storage.enable=false")
	}
	for _, unit := range []string{"ms", "bytes"} {
		faults = append(faults, v.retentionFaults(unit)...)
	}
	return faults
}

// retentionFaults checks local against total retention: nothing may be kept on local disk for
// longer than it is kept at all.
func (v configValues) retentionFaults(unit string) []ConfigFault {
	localKey, totalKey, lagKey := "local.retention."+unit, "retention."+unit, "remote.copy.lag."+unit
	local, total, lag := v.long(localKey), v.long(totalKey), v.long(lagKey)
	var faults []ConfigFault
	add := func(key, format string, args ...any) {
		faults = append(faults, ConfigFault{key, v.get(key), fmt.Sprintf(format, args...)})
	}
	switch {
	case local == -2: // follows retention
	case total >= 0 && local == -1:
		add(localKey, "must not be -1 (for ever) while %s is %d", totalKey, total)
	case total >= 0 && local > total:
		add(localKey, "must not be above %s=%d", totalKey, total)
	case v.boolean("remote.log.copy.disable") && local != total:
		add(localKey, "must equal %s=%d or be -2 while remote.log.copy.disable is true: nothing is tiered any more", totalKey, total)
	}
	if local == -2 {
		local = total
	}
	if lag > 0 && local >= 0 && lag > local {
		add(lagKey, "must not be above the local retention of %d", local)
	}
	return faults
}

func contains(list []string, want string) bool {
	for _, v := range list {
		if strings.EqualFold(v, want) {
			return true
		}
	}
	return false
}

// configValues reads keys through layers: the first map that has the key wins, then the default.
// A stored value that does not parse, from a program with other rules, reads as the default.
type configValues []map[string]string

func (v configValues) get(key string) string {
	for _, layer := range v {
		if value, ok := layer[key]; ok {
			return strings.TrimSpace(value)
		}
	}
	return topicConfigIndex[key].Default
}

// checked is get, or the default if the value is none that the key takes.
func (v configValues) checked(key string) string {
	value := v.get(key)
	if k := topicConfigIndex[key]; k.Check(value) != nil {
		return k.Default
	}
	return value
}

func (v configValues) long(key string) int64 {
	n, _ := strconv.ParseInt(v.checked(key), 10, 64) // checked
	return n
}

func (v configValues) double(key string) float64 {
	f, _ := strconv.ParseFloat(v.checked(key), 64) // checked
	return f
}

func (v configValues) boolean(key string) bool { return strings.EqualFold(v.checked(key), "true") }

func (v configValues) list(key string) []string { return splitList(v.checked(key)) }

// splitList is Kafka's LIST: comma separated, blanks around elements ignored.
func splitList(value string) []string {
	var list []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
