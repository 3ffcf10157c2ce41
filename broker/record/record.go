package record

// Record is one record of a batch. When it comes from Batch.Records its slices are views, valid
// until the next step of the iteration.
type Record struct {
	Offset    int64
	Timestamp int64    // ms since 1970, NoTimestamp for none
	Key       []byte   // nil is null
	Value     []byte   // nil is null: a tombstone in a compacted topic
	Headers   []Header // in order; keys may repeat
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte // nil is null
}
