package callctx

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDetach_HasTheValuesAndNotTheEnd(t *testing.T) {
	t.Parallel()
	type name struct{}
	parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), name{}, "x"))
	ctx := Detach(parent)
	below, stop := context.WithCancel(ctx)
	cancel(errors.New("the client has gone"))
	require.Error(t, parent.Err())
	for _, c := range []context.Context{ctx, below, context.WithValue(ctx, actorKey, "y")} {
		require.NoError(t, c.Err())
		require.NoError(t, context.Cause(c))
		require.Equal(t, "x", c.Value(name{}))
		_, limited := c.Deadline()
		require.False(t, limited)
	}
	require.Nil(t, ctx.Done())
	stop()
	require.ErrorIs(t, context.Cause(below), context.Canceled)
	timed, release := context.WithTimeout(ctx, time.Nanosecond)
	defer release()
	<-timed.Done()
	require.ErrorIs(t, context.Cause(timed), context.DeadlineExceeded)
}
