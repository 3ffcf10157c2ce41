package main

import "io"

func (a *app) inspectIndex(f io.ReaderAt, size int64) error { return nil }
