package object

import "context"

// Purpose says why a request is made. The set is closed, because it becomes a
// label of metrics and rows of the cost ledger.
type Purpose string

// The purposes. PurposeNone is what a context without a label has.
const (
	PurposeNone     Purpose = ""
	PurposeUpload   Purpose = "upload"
	PurposeColdRead Purpose = "cold_read"
	PurposeManifest Purpose = "manifest"
	PurposeGC       Purpose = "gc"
	PurposeScrub    Purpose = "scrub"
	PurposeSnapshot Purpose = "snapshot"
	PurposeRestore  Purpose = "restore"
	PurposeProbe    Purpose = "probe"
	PurposeAdmin    Purpose = "admin"
)

// Op names one kind of request. The first five are the methods of Store; the
// others leave the machine below them.
type Op string

// The operations.
const (
	OpPut    Op = "put"
	OpGet    Op = "get"
	OpHead   Op = "head"
	OpList   Op = "list"
	OpDelete Op = "delete"

	OpCreateMultipart   Op = "create_multipart"
	OpPutPart           Op = "put_part"
	OpCompleteMultipart Op = "complete_multipart"
	OpAbortMultipart    Op = "abort_multipart"
	OpListMultipart     Op = "list_multipart"
	OpBucket            Op = "bucket"      // questions about the bucket itself
	OpCredentials       Op = "credentials" // instance role and token services; never billed by the store
)

type labelsKey struct{}

type labels struct {
	purpose Purpose
	topic   string
}

// WithPurpose labels every request made under ctx with p.
func WithPurpose(ctx context.Context, p Purpose) context.Context {
	l := labelsOf(ctx)
	l.purpose = p
	return context.WithValue(ctx, labelsKey{}, l)
}

// WithTopic labels every request made under ctx with a topic name.
func WithTopic(ctx context.Context, topic string) context.Context {
	l := labelsOf(ctx)
	l.topic = topic
	return context.WithValue(ctx, labelsKey{}, l)
}

// PurposeOf is the purpose ctx carries.
func PurposeOf(ctx context.Context) Purpose { return labelsOf(ctx).purpose }

// TopicOf is the topic ctx carries, empty if none.
func TopicOf(ctx context.Context) string { return labelsOf(ctx).topic }

func labelsOf(ctx context.Context) labels {
	l, _ := ctx.Value(labelsKey{}).(labels)
	return l
}
