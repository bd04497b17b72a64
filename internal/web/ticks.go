package web

import (
	"bufio"
	"context"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
)

// ticksType is the content type of a recording: a line of JSON for each tick.
const ticksType = "application/x-ndjson"

func (s *Server) registerTicks(api huma.API) {
	stream(s, api, huma.Operation{
		OperationID: "get-delivery-ticks", Path: "/v1/apps/{app}/deliveries/{number}/ticks",
		Summary:     "Each second that its rollout was judged by, and what the judge says after it",
		Description: "A line of JSON for each tick of the rollout of production, of staging where production was not reached.",
	}, ticksType, func(ctx context.Context, in *DeliveryPath, out *streamWriter) error {
		lines := bufio.NewWriterSize(out, 64<<10) // each write of out is sent at once
		encoder := json.NewEncoder(lines)
		encoder.SetEscapeHTML(false)
		err := s.service.Ticks(ctx, in.App, in.number(), func(t Replayed) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return encoder.Encode(t)
		})
		if err != nil {
			return err
		}
		return lines.Flush()
	})
}
