//go:build !linux

package commitlog

import "os"

func diskBytes(info os.FileInfo) int64 { return info.Size() }
