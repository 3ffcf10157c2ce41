// Command varve is the server and the command line of Varve in one binary.
//
// One file holds one noun: serve, topic, group, txn, produce, consume, tier, config, inspect, show, version.
// Commands that talk to a cluster use franz-go as any client would, and learn from the broker
// itself where its admin API listens. Errors are one line on stderr; the exit code is 0, 1 for a
// failure, or 2 for a command line that makes no sense.
package main

import (
	"os"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ()}
	os.Exit(a.run(os.Args[1:]))
}
