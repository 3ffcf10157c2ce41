package broker

import (
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
		CheckDynamic: func(values map[string]string) error {
			_, err := b.cfg.WithDynamic(values)
			return err
		},
		LogDir: b.cfg.DataDir,
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

var kafkaTypes = map[KeyType]kmsg.ConfigType{
	TypeBool: kmsg.ConfigTypeBoolean, TypeInt: kmsg.ConfigTypeInt, TypeBytes: kmsg.ConfigTypeLong,
	TypeDuration: kmsg.ConfigTypeLong, TypeString: kmsg.ConfigTypeString, TypeList: kmsg.ConfigTypeList,
}

// configRows is the broker's configuration as DescribeConfigs shows it, with the listeners under
// Kafka's names beside ours, because clients and consoles look for them.
func (b *Broker) configRows() []api.BrokerConfig {
	rows := make([]api.BrokerConfig, 0, len(keys)+2)
	for i := range keys {
		k := &keys[i]
		kind, ok := kafkaTypes[k.Type]
		if !ok {
			kind = kmsg.ConfigTypeString
		}
		row := api.BrokerConfig{
			Name: k.Name, Value: k.Value(&b.cfg), Doc: k.Doc, Type: kind,
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
	return append(rows,
		api.BrokerConfig{Name: "listeners", Value: listen, Type: kmsg.ConfigTypeString, Doc: "Addresses this broker listens on."},
		api.BrokerConfig{Name: "advertised.listeners", Value: advertised, Type: kmsg.ConfigTypeString, Doc: "Addresses clients are told."},
	)
}
