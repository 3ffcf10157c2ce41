package broker

import (
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"varve/broker/api"
)

// brokerInfo is what the API asks the composition root for.
func (b *Broker) brokerInfo() api.BrokerInfo {
	info := api.BrokerInfo{
		Configs: b.configRows,
		TopicDefault: func(key string) (string, string) {
			return (*b.topics.defaults.Load())[key], brokerKeyOf(key)
		},
		TopicDefaults:      func() map[string]string { return *b.topics.defaults.Load() },
		TierDefault:        func() bool { return b.topics.dynamic.Load().TierDefault },
		RemoteFetchMaxWait: func() time.Duration { return b.topics.dynamic.Load().RemoteFetchMaxWait },
		CheckDynamic:       b.checkDynamic,
		ListKey:            b.listKey,
		LogLevel:           b.logLevel,
		SetLogLevel:        b.setLogLevel,
		LogDir:             b.cfg.DataDir,
		Usage: func() (int64, int64, error) {
			u, err := b.fs.Usage(b.cfg.DataDir)
			return u.Total, u.Free, err
		},
	}
	if b.tier != nil {
		info.RemoteDir = storeLabel(b.store.name())
	}
	return info
}

func brokerKeyOf(topicKey string) string {
	for i := range keys {
		if keys[i].Topic == topicKey {
			return keys[i].Name
		}
	}
	return ""
}

// kafkaType is the type of a key as DescribeConfigs says it; whole numbers go by their bounds.
func kafkaType(k *Key) kmsg.ConfigType {
	switch k.Type {
	case TypeBool:
		return kmsg.ConfigTypeBoolean
	case TypeFraction:
		return kmsg.ConfigTypeDouble
	case TypeList:
		return kmsg.ConfigTypeList
	case TypeInt, TypeBytes, TypeBytesPerSecond, TypeDuration:
		if k.Max <= math.MaxInt32 {
			return kmsg.ConfigTypeInt
		}
		return kmsg.ConfigTypeLong
	case TypeString, TypeAddress:
	}
	if listKeys[k.Name] {
		return kmsg.ConfigTypeList
	}
	return kmsg.ConfigTypeString
}

// configRows is the broker's configuration as DescribeConfigs shows it, with the listeners under
// Kafka's names beside ours, because clients and consoles look for them.
func (b *Broker) configRows() []api.BrokerConfig {
	rows := make([]api.BrokerConfig, 0, len(keys)+6)
	defaults := DefaultConfig()
	for i := range keys {
		k := &keys[i]
		kind := kafkaType(k)
		row := api.BrokerConfig{
			Name: k.Name, Value: k.Value(&b.cfg), DefaultValue: k.Value(&defaults), Doc: k.Doc, Type: kind,
			Default: b.cfg.Origin(k.Name).Kind == OriginDefault, Dynamic: k.Dynamic,
		}
		if k.Name == "admin.listen" { // as bound: commands learn the admin address from here
			row.Value = b.admin.Addr()
		}
		rows = append(rows, row)
	}
	listen := "PLAINTEXT://" + b.wire.Addr(kafkaListener).String()
	advertised := listen
	if host, port, err := b.advertised(); err == nil {
		advertised = "PLAINTEXT://" + joinHostPort(host, port)
	}
	alias := func(name, value, doc string, kind kmsg.ConfigType) {
		rows = append(rows, api.BrokerConfig{Name: name, Value: value, DefaultValue: value, Type: kind, Doc: doc})
	}
	alias("listeners", listen, "Addresses this broker listens on; set as listen.", kmsg.ConfigTypeString)
	alias("advertised.listeners", advertised, "Addresses clients are told; set as advertised.listen.", kmsg.ConfigTypeString)
	alias("broker.id", strconv.Itoa(int(b.cfg.NodeID)), "Id of this broker; set as node.id.", kmsg.ConfigTypeInt)
	alias("broker.rack", b.cfg.Rack, "Failure domain of this broker; set as rack.", kmsg.ConfigTypeString)
	alias("log.dirs", b.cfg.DataDir, "The data directory; set as data.dir.", kmsg.ConfigTypeList)
	return rows
}

// checkDynamic lays values over the configuration of this broker and gives them in Kafka's form.
func (b *Broker) checkDynamic(values map[string]string) (map[string]string, error) {
	now, err := b.cfg.WithDynamic(values)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(values))
	for name := range values {
		k, _ := LookupKey(name) // WithDynamic knows it
		out[name] = k.Value(&now)
	}
	return out, nil
}

// listKeys are the broker keys that Kafka has as lists, beside those of the type.
var listKeys = map[string]bool{"log.cleanup.policy": true}

func (b *Broker) listKey(name string) (string, bool) {
	k, ok := LookupKey(name)
	if !ok || k.Type != TypeList && !listKeys[name] {
		return "", false
	}
	return k.Value(&b.cfg), true
}
