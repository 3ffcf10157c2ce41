// Package auth decides who a client is and what it may use. So far it holds client quotas: pure
// bookkeeping that is told the time and asked from any goroutine. It knows neither the wire nor the
// metadata that quotas are stored in.
package auth

// Anonymous is the user of a connection that did not say who it is, as in Kafka.
const Anonymous = "ANONYMOUS"
