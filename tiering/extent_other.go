//go:build !linux

package tiering

import "os"

// dropPages does nothing where there is no way to say it.
func dropPages(*os.File, int64, int64) {}
