// Package harness runs real Varve processes for black-box tests: it builds the binary, starts it on
// free loopback ports, waits until it is ready, stops or kills it, talks to its admin API, and holds
// the one set of expected records that every client is compared with.
//
// It imports nothing of Varve's own code: what it knows of the broker is the command line, the
// Kafka protocol and the JSON of the admin API, as any user would.
package harness
