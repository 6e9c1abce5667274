package main

import (
	"context"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// await waits for an operation, showing its progress when stderr is a
// terminal. When ctx ends (Ctrl-C) the operation is cancelled in the service
// and its end awaited.
func (a *app) await(ctx context.Context, op *requester.Async) (requester.Status, error) {
	defer func() { _ = op.Release(context.WithoutCancel(ctx)) }()
	if !a.json() && isTerminal(os.Stderr) {
		stop := showProgress(ctx, op)
		defer stop()
	}
	st, err := op.WaitFor(ctx, requester.Infinite)
	if ctx.Err() != nil {
		cctx := context.WithoutCancel(ctx)
		if _, err := op.Cancel(cctx); err != nil {
			return st, err
		}
		return op.Status(cctx)
	}
	return st, err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// showProgress draws one bar that follows the operation's phases.
func showProgress(ctx context.Context, op *requester.Async) (stop func()) {
	pctx, cancel := context.WithCancel(ctx)
	p := mpb.NewWithContext(pctx, mpb.WithOutput(os.Stderr), mpb.WithWidth(40))
	phase := "starting"
	bar := p.New(1, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return phase }, decor.WC{W: 14, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.CountersNoUnit("%d/%d"), decor.Elapsed(decor.ET_STYLE_MMSS, decor.WCSyncSpace)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = op.Follow(pctx, func(u requester.Progress) {
			if u.Phase != "" {
				phase = u.Phase
			}
			bar.SetTotal(max(u.Total, 1), u.Result != vss.VSS_S_ASYNC_PENDING)
			bar.SetCurrent(u.Done)
		})
	}()
	return func() {
		cancel()
		<-done
		bar.Abort(true)
		p.Wait()
	}
}
