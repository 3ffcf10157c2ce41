package broker

import "math"

var identityKeys = []Key{
	{
		Name: "node.id", Kafka: true, Type: TypeInt, Default: "1", Flag: "node-id", Min: 1,
		Difference: "Kafka has no default",
		Doc:        "Id of this broker in its cluster; it is kept with the data directory and must not change.",
		field:      func(c *Config) any { return &c.NodeID },
	},
	{
		Name: "rack", Type: TypeString, Default: "", Flag: "rack",
		Difference: "Kafka calls it broker.rack",
		Doc:        "Failure domain of this broker; replicas of a partition are spread over racks.",
		field:      func(c *Config) any { return &c.Rack },
	},
	{
		Name: "listen", Type: TypeAddress, Default: "127.0.0.1:9092", Flag: "listen",
		Difference: "Kafka has a list, listeners, and binds every interface",
		Doc:        "Address that Kafka clients connect to.",
		field:      func(c *Config) any { return &c.Listen },
	},
	{
		Name: "advertised.listen", Type: TypeAddress, Default: "", Flag: "advertise",
		Difference: "Kafka calls it advertised.listeners",
		Doc:        "Address given to clients; empty means the listen address, required when that is 0.0.0.0 or ::.",
		field:      func(c *Config) any { return &c.AdvertisedListen },
	},
	{
		Name: "admin.listen", Type: TypeAddress, Default: "127.0.0.1:9644", Flag: "admin",
		Doc:   "Address of the HTTP API, health, metrics and profiles; the command line learns it from the broker.",
		field: func(c *Config) any { return &c.AdminListen },
	},
	{
		Name: "internal.listen", Type: TypeAddress, Default: "127.0.0.1:9093", Flag: "internal",
		Doc:   "Address of metadata consensus and replication between brokers; a broker that is alone binds nothing there.",
		field: func(c *Config) any { return &c.InternalListen },
	},
	{
		Name: "gossip.listen", Type: TypeAddress, Default: "127.0.0.1:7946", Flag: "gossip",
		Doc:   "Address of membership gossip, TCP and UDP; empty switches gossip off.",
		field: func(c *Config) any { return &c.GossipListen },
	},
	{
		Name: "seeds", Type: TypeList, Default: "", Flag: "seed",
		Doc:   "Gossip addresses of brokers to join, separated by commas; the broker's own may be among them.",
		field: func(c *Config) any { return &c.Seeds },
	},
	{
		Name: "bootstrap.expect", Type: TypeInt, Default: "1", Flag: "bootstrap-expect", Min: 1, Max: 5,
		Doc:   "Number of brokers that found a new cluster together: 1, 3 or 5.",
		field: func(c *Config) any { return &c.BootstrapExpect },
	},
}

var placeKeys = []Key{
	{
		Name: "data.dir", Type: TypeString, Default: "./varve-data", Flag: "data",
		Difference: "Kafka calls it log.dirs and takes several",
		Doc:        "Directory of everything the broker keeps on local disk; one broker a directory.",
		field:      func(c *Config) any { return &c.DataDir },
	},
	{
		Name: "store", Type: TypeString, Default: "", Flag: "store",
		Doc:   "Object store: dir:///path, or s3://bucket/prefix?endpoint=http://host:port&region=...&path_style=true; empty means none.",
		field: func(c *Config) any { return &c.Store },
	},
	{
		Name: "store.credentials.file", Type: TypeString, Default: "",
		Doc:   "AWS-format file with the keys of the store, used when AWS_ACCESS_KEY_ID is not set; empty means the instance role.",
		field: func(c *Config) any { return &c.StoreCredentialsFile },
	},
	{
		Name: "store.ca.file", Type: TypeString, Default: "",
		Doc:   "PEM file with the certificate authority of an https store; empty means the system's.",
		field: func(c *Config) any { return &c.StoreCAFile },
	},
}

var outputKeys = []Key{
	{
		Name: "log.level", Type: TypeString, Default: "info", Values: []string{"debug", "info", "warn", "error"},
		Doc:   "Least severe line that the broker writes to stderr.",
		field: func(c *Config) any { return &c.LogLevel },
	},
	{
		Name: "log.format", Type: TypeString, Default: "auto", Values: []string{"auto", "text", "json"},
		Doc:   "Form of log lines; auto is text on a terminal and JSON elsewhere.",
		field: func(c *Config) any { return &c.LogFormat },
	},
}

var wireKeys = []Key{
	{
		Name: "socket.request.max.bytes", Kafka: true, Type: TypeBytes, Default: "100MiB", Min: 64 << 10, Max: 1 << 30,
		Doc:   "Largest request frame; a longer one closes its connection before anything is allocated.",
		field: func(c *Config) any { return &c.SocketRequestMaxBytes },
	},
	{
		Name: "queued.max.request.bytes", Kafka: true, Type: TypeBytes, Default: "256MiB", Min: 1 << 20,
		Difference: "Kafka's default is no limit",
		Doc:        "Memory that all requests in flight may hold together; beyond it connections are read more slowly.",
		field:      func(c *Config) any { return &c.QueuedMaxRequestBytes },
	},
	{
		Name: "max.connections", Kafka: true, Type: TypeInt, Default: "2147483647", Min: 1, Dynamic: true,
		Doc:   "Client connections at one time; a connection beyond it is closed at once.",
		field: func(c *Config) any { return &c.MaxConnections },
	},
	{
		Name: "max.connections.per.ip", Kafka: true, Type: TypeInt, Default: "2147483647", Min: 1, Dynamic: true,
		Doc:   "Client connections at one time from one address.",
		field: func(c *Config) any { return &c.MaxConnectionsPerIP },
	},
	{
		Name: "connections.max.idle.ms", Kafka: true, Type: TypeDuration, Default: "10m", Min: 1000,
		Doc:   "A connection without a request for this long is closed.",
		field: func(c *Config) any { return &c.ConnectionsMaxIdle },
	},
	{
		Name: "fetch.max.bytes", Kafka: true, Type: TypeBytes, Default: "55MiB", Min: 1024, Max: math.MaxInt32,
		Doc:   "Most record bytes in one fetch reply; one batch larger than it is still delivered.",
		field: func(c *Config) any { return &c.FetchMaxBytes },
	},
	{
		Name: "max.incremental.fetch.session.cache.slots", Kafka: true, Type: TypeInt, Default: "1000", Max: 1_000_000,
		Doc:   "Fetch sessions (KIP-227) that the broker remembers; 0 turns sessions off.",
		field: func(c *Config) any { return &c.FetchSessionSlots },
	},
}

var producerKeys = []Key{
	{
		Name: "producer.id.expiration.ms", Kafka: true, Type: TypeDuration, Default: "1d", Min: 1, Dynamic: true,
		Doc:   "State of an idempotent producer is forgotten after this time without a write.",
		field: func(c *Config) any { return &c.ProducerIDExpiration },
	},
	{
		Name: "transaction.max.timeout.ms", Kafka: true, Type: TypeDuration, Default: "15m", Min: 1, Max: math.MaxInt32,
		Doc:   "Longest transaction.timeout.ms that a producer may ask for; a transaction that nobody knows is aborted after it.",
		field: func(c *Config) any { return &c.TransactionMaxTimeout },
	},
	{
		Name: "transactional.id.expiration.ms", Kafka: true, Type: TypeDuration, Default: "7d", Min: 1, Max: math.MaxInt32,
		Doc:   "A transactional id without a transaction is forgotten after this time without a request.",
		field: func(c *Config) any { return &c.TransactionalIDExpiration },
	},
}

var diskKeys = []Key{
	{
		Name: "varve.disk.reserve.bytes", Type: TypeBytes, Default: "-1", Special: []Special{{-1, "the larger of 2 GiB and 3 % of the disk, less on small disks"}},
		Doc:   "Free disk space below which the broker takes no more data, while reads, tiering and retention go on.",
		field: func(c *Config) any { return &c.DiskReserveBytes },
	},
	{
		Name: "varve.disk.timeout.ms", Type: TypeDuration, Default: "30s", Min: 1000,
		Doc:   "A write or fsync that hangs longer is treated as a storage error, which ends the broker.",
		field: func(c *Config) any { return &c.DiskTimeout },
	},
	{
		Name: "varve.segment.recycle.window.ms", Topic: "varve.segment.recycle.window.ms", Type: TypeDuration, Default: "1h", Dynamic: true,
		Doc:   "A new segment takes a recycled file only if the one before filled within this time; 0 never recycles.",
		field: func(c *Config) any { return &c.SegmentRecycleWindow },
	},
}

var tierKeys = []Key{
	{
		Name: "varve.tier.default", Type: TypeBool, Default: "false", Dynamic: true,
		Doc:   "New topics are tiered unless they say remote.storage.enable=false; needs a store.",
		field: func(c *Config) any { return &c.TierDefault },
	},
	{
		Name: "varve.tier.max.delay.ms", Topic: "varve.tier.max.delay.ms", Type: TypeDuration, Default: "1h", Min: 1, Dynamic: true,
		Doc:   "An idle active segment of a tiered topic rolls after this time, which bounds what exists only on local disk.",
		field: func(c *Config) any { return &c.TierMaxDelay },
	},
	{
		Name: "varve.tier.object.bytes", Topic: "varve.tier.object.bytes", Type: TypeBytes, Default: "128MiB", Min: 1 << 20, Dynamic: true,
		Doc:   "Size up to which small neighbouring segments are joined into one object.",
		field: func(c *Config) any { return &c.TierObjectBytes },
	},
	{
		Name: "varve.tier.storage.class", Type: TypeString, Default: "",
		Doc:   "Storage class of uploaded objects as the store names it, such as STANDARD_IA, without manifests; empty means the bucket's default.",
		field: func(c *Config) any { return &c.TierStorageClass },
	},
	{
		Name: "varve.tier.upload.slots", Type: TypeInt, Default: "2", Min: 1, Max: 64,
		Doc:   "Uploads at one time; each holds at most 8 MiB.",
		field: func(c *Config) any { return &c.TierUploadSlots },
	},
	{
		Name: "varve.tier.read.slots", Type: TypeInt, Default: "8", Min: 1, Max: 256,
		Doc:   "Ranged reads from the store at one time.",
		field: func(c *Config) any { return &c.TierReadSlots },
	},
	{
		Name: "varve.tier.cache.bytes", Type: TypeBytes, Default: "4GiB",
		Doc:   "Disk that cached cold data may take in data.dir/cache; 0 turns the disk cache off.",
		field: func(c *Config) any { return &c.TierCacheBytes },
	},
	{
		Name: "varve.tier.memory.bytes", Type: TypeBytes, Default: "128MiB", Min: 8 << 20,
		Doc:   "Memory that cold reads and their read-ahead may hold.",
		field: func(c *Config) any { return &c.TierMemoryBytes },
	},
	{
		Name: "varve.tier.reader.grace.ms", Type: TypeDuration, Default: "10m", Min: 1000,
		Doc:   "An object that no manifest names any more is deleted after this time, so that slow readers can finish.",
		field: func(c *Config) any { return &c.TierReaderGrace },
	},
	{
		Name: "varve.tier.manifest.history.ms", Type: TypeDuration, Default: "1d",
		Doc:   "Superseded manifests are kept this long in the store, and at least the last two.",
		field: func(c *Config) any { return &c.TierManifestHistory },
	},
	{
		Name: "remote.fetch.max.wait.ms", Kafka: true, Type: TypeDuration, Default: "500ms", Min: 1, Dynamic: true,
		Doc:   "A fetch waits at most this long for the store; what is not there yet is read on into the cache.",
		field: func(c *Config) any { return &c.RemoteFetchMaxWait },
	},
	{
		Name: "remote.log.manager.copy.max.bytes.per.second", Kafka: true, Type: TypeBytesPerSecond, Default: "9223372036854775807", Min: 1, Dynamic: true,
		Doc:   "Most bytes a second that this broker uploads to the store.",
		field: func(c *Config) any { return &c.RemoteCopyBytesPerSec },
	},
	{
		Name: "remote.log.manager.fetch.max.bytes.per.second", Kafka: true, Type: TypeBytesPerSecond, Default: "9223372036854775807", Min: 1, Dynamic: true,
		Doc:   "Most bytes a second that this broker reads from the store.",
		field: func(c *Config) any { return &c.RemoteReadBytesPerSec },
	},
}
