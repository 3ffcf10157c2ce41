// Package wire is the socket side of the Kafka protocol: listeners, frames, request and response
// headers, replies in request order, and the limits that keep one peer from hurting the others.
// It knows no api key but ApiVersions (whose response header never changes) and no message body.
//
// Each connection has one reader and one writer goroutine. The reader takes a frame into a pooled
// buffer, decodes the header and calls Handler.Serve; the handler answers at once or later, from
// any goroutine. A reply that is given while Serve runs leaves on the reader itself as soon as
// Serve returns (a hand-off adds 30 % to a small round trip); all others leave through the
// writer, many completions in one writev. Replies always leave in request order.
//
// A Server and its Conns may be used concurrently. A Request belongs to its handler until the one
// call of Reply or NoReply; its Body until Release. Buffers from GetBuffer have one owner.
package wire
