package broker

// The tier part of the HTTP API on admin.listen. Every answer is JSON: one object with "kind" and
// "version"; fields are only ever added to a version. Each broker answers for the partitions that
// it leads; a client asks every broker and joins the lists by topic and partition.
//
//	GET  /api/v1/tier/status                                     TierStatus
//	GET  /api/v1/tier/topics/{topic}                             TierTopic
//	GET  /api/v1/tier/topics/{topic}/segments?partition=P        TierSegments; P optional
//	POST /api/v1/tier/topics/{topic}/flush?partition=P&wait_ms=N TierFlush; rolls, uploads what is below the
//	                                                             LSO, and waits at most N ms for it (30,000; at most 100,000)
//	GET  /api/v1/tier/topics/{topic}/partitions/{P}/explain      TierExplain
//	GET  /api/v1/tier/topics/{topic}/partitions/{P}/manifest     TierManifest
//
// An error is a status (400 bad request, 404 unknown topic or partition, 409 not tiered or led
// elsewhere, 503 store or broker not ready) with an AdminError.
//
// Times are milliseconds since 1970 UTC, and -1 where there is none. Sizes are bytes of record
// batches as in the log, unless a name says stored (compressed, as in the bucket).

// TierAPIVersion is the version of every answer below.
const TierAPIVersion = 1

// Header starts every answer.
type Header struct {
	Kind    string `json:"kind"`
	Version int    `json:"version"`
}

// AdminError is the body of every answer that is not 2xx.
type AdminError struct {
	Header            // kind "error"
	Code       string `json:"code"` // unknown_topic, unknown_partition, not_tiered, not_leader, store_unavailable, bad_request, internal
	Message    string `json:"message"`
	LeaderNode int32  `json:"leader_node,omitempty"` // not_leader: who to ask
}

// TierStatus is what one broker knows of its tier.
type TierStatus struct {
	Header                       // kind "tier.status"
	NodeID      int32            `json:"node_id"`
	Store       string           `json:"store"`       // URL without secrets; "" when none is configured
	StoreState  string           `json:"store_state"` // none, probing, ok, degraded
	StoreError  string           `json:"store_error,omitempty"`
	Partitions  int              `json:"partitions"` // tiered partitions led here
	Bytes       TierBytes        `json:"bytes"`
	Objects     int64            `json:"objects"`
	Pending     TierPending      `json:"pending"`
	Requests    TierRequests     `json:"requests"`
	Cache       TierCache        `json:"cache"`
	Errors      map[string]int64 `json:"errors,omitempty"` // by kind: upload, read, missing, corrupt, delete
	LastError   string           `json:"last_error,omitempty"`
	LastErrorAt int64            `json:"last_error_at"`
}

// TierBytes says where the bytes of a log are. The three parts do not overlap.
type TierBytes struct {
	HotOnly  int64 `json:"hot_only"`  // only on local disk
	Both     int64 `json:"both"`      // on local disk and in the store
	ColdOnly int64 `json:"cold_only"` // only in the store
	Stored   int64 `json:"stored"`    // what the store holds for Both and ColdOnly, compressed
}

// TierPending is work that uploads and local retention have before them.
type TierPending struct {
	UploadSegments int64 `json:"upload_segments"` // sealed, below the LSO, not in the store
	UploadBytes    int64 `json:"upload_bytes"`
	DropSegments   int64 `json:"drop_segments"` // local segments that local retention will drop at its next run
	DropBytes      int64 `json:"drop_bytes"`
	// OldestLocalOnly is the time of the oldest record that exists only on local disk.
	OldestLocalOnly int64 `json:"oldest_local_only"`
}

// TierRequests counts requests that left for the store since the broker started, retries included.
type TierRequests struct {
	Put          int64 `json:"put"`
	Get          int64 `json:"get"`
	Head         int64 `json:"head"`
	List         int64 `json:"list"`
	Delete       int64 `json:"delete"`
	Failed       int64 `json:"failed"`
	BytesWritten int64 `json:"bytes_written"`
	BytesRead    int64 `json:"bytes_read"`
}

// TierCache is the state of the disk cache of cold data.
type TierCache struct {
	Bytes  int64 `json:"bytes"`
	Limit  int64 `json:"limit"`
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
}

// TierTopic is a topic's partitions led by the answering broker, in order.
type TierTopic struct {
	Header                       // kind "tier.topic"
	Topic        string          `json:"topic"`
	TopicID      string          `json:"topic_id"`
	Tiered       bool            `json:"tiered"`
	LocalMS      int64           `json:"local_retention_ms"`
	LocalBytes   int64           `json:"local_retention_bytes"`
	RetentionMS  int64           `json:"retention_ms"`
	RetentionMax int64           `json:"retention_bytes"`
	Partitions   []TierPartition `json:"partitions"`
}

// TierPoint is an offset and the time of the record there; for an end offset, of the record before it.
type TierPoint struct {
	Offset int64 `json:"offset"`
	Time   int64 `json:"time"`
}

// TierPartition is one partition over both tiers:
//
//	LogStart <= LocalStart <= LSO <= HighWatermark <= LogEnd     LocalStart <= max(LogStart, TieredEnd)
type TierPartition struct {
	Partition     int32       `json:"partition"`
	Leader        int32       `json:"leader"`
	LeaderEpoch   int32       `json:"leader_epoch"`
	LogStart      TierPoint   `json:"log_start"`
	LocalStart    TierPoint   `json:"local_start"`
	TieredEnd     TierPoint   `json:"tiered_end"` // exclusive
	LastStable    int64       `json:"last_stable_offset"`
	HighWatermark TierPoint   `json:"high_watermark"` // exclusive
	LogEnd        int64       `json:"log_end"`
	Bytes         TierBytes   `json:"bytes"`
	LocalSegments int         `json:"local_segments"`
	Objects       int64       `json:"objects"`
	Pending       TierPending `json:"pending"`
	LastCommitAt  int64       `json:"last_commit_at"` // when the store was last added to
	State         string      `json:"state"`          // idle, uploading, waiting, blocked, paused, damaged, not_tiered
	Error         string      `json:"error,omitempty"`
}

// TierSegments lists the ranges of a topic, oldest first within a partition.
type TierSegments struct {
	Header                 // kind "tier.segments"
	Topic    string        `json:"topic"`
	Segments []TierSegment `json:"segments"`
}

// TierSegment is one sealed range, or the active segment. A range that is in both tiers under the
// same boundaries is one row.
type TierSegment struct {
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
	Next      int64  `json:"next"` // exclusive
	FirstTime int64  `json:"first_time"`
	MaxTime   int64  `json:"max_time"`
	Bytes     int64  `json:"bytes"`
	Stored    int64  `json:"stored"` // 0 when not in the store
	Records   int64  `json:"records"`
	Where     string `json:"where"` // disk, both, bucket
	Active    bool   `json:"active,omitempty"`
	Key       string `json:"key,omitempty"` // of the object, from the store's root on (below the prefix of an s3:// URL)
	CRC32C    uint32 `json:"crc32c,omitempty"`
}

// TierFlush tells how far a flush came.
type TierFlush struct {
	Header                     // kind "tier.flush"
	Topic      string          `json:"topic"`
	Partitions []TierFlushItem `json:"partitions"`
}

// TierFlushItem is one partition of a flush. Done means TieredEnd reached Target in time.
type TierFlushItem struct {
	Partition int32  `json:"partition"`
	Target    int64  `json:"target"` // the LSO when the flush began
	TieredEnd int64  `json:"tiered_end"`
	Done      bool   `json:"done"`
	Reason    string `json:"reason,omitempty"` // why not
}

// TierExplain says what the next upload of a partition is and what blocks it.
type TierExplain struct {
	Header                     // kind "tier.explain"
	Topic        string        `json:"topic"`
	Partition    TierPartition `json:"partition"`
	NextFirst    int64         `json:"next_first"` // -1: nothing to upload
	NextNext     int64         `json:"next_next"`  // exclusive
	NextBytes    int64         `json:"next_bytes"`
	RollAt       int64         `json:"roll_at"` // when the active segment rolls for its age; -1: does not
	Blockers     []TierBlocker `json:"blockers"`
	ManifestName string        `json:"manifest_name"` // "" before the first commit
	ManifestCRC  uint32        `json:"manifest_crc32c"`
}

// TierBlocker is one reason why the next upload does not start now, in words for people.
type TierBlocker struct {
	Kind            string `json:"kind"` // active_segment, open_transaction, store, paused, rate_limit, not_durable, damaged, disabled
	Message         string `json:"message"`
	ProducerID      int64  `json:"producer_id,omitempty"`
	TransactionalID string `json:"transactional_id,omitempty"`
	Since           int64  `json:"since,omitempty"`
}

// TierManifest is the committed manifest of a partition as the store has it.
type TierManifest struct {
	Header           // kind "tier.manifest"
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Name      string `json:"name"`
	CRC32C    uint32 `json:"crc32c"`
	Manifest  any    `json:"manifest"` // the JSON document of tiering/FORMAT.md, unchanged
}
