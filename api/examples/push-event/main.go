// Push-event pushes one event to a gateway, as if all before it were accepted, and prints what became of it: the status
// and the mark.
//
//	push-event 127.0.0.1:9090 my-agent 1
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	gatewayv1 "arcgate.dev/api/gen/go/gateway/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: push-event ADDRESS AGENT_ID SEQ")
	}
	agent, seq := os.Args[2], must(strconv.ParseUint(os.Args[3], 10, 64))
	conn := must(grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials())))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream := must(gatewayv1.NewGatewayServiceClient(conn).PushEvents(ctx))
	handshake := &gatewayv1.AgentHandshake{AgentId: agent, LastKnownSeq: max(seq, 1) - 1}
	event := &gatewayv1.Event{
		EventId:   fmt.Sprintf("hello-%d", seq),
		Meta:      &gatewayv1.Meta{AgentId: agent, Timestamp: timestamppb.Now(), Seq: seq},
		EventType: "example.hello",
		Payload:   must(structpb.NewStruct(map[string]any{"from": agent})),
	}
	batch := &gatewayv1.EventBatch{BatchId: fmt.Sprintf("batch-%d", seq), Events: []*gatewayv1.Event{event}}
	// What goes wrong in Send, CloseAndRecv tells.
	stream.Send(&gatewayv1.PushEventsRequest{Payload: &gatewayv1.PushEventsRequest_Handshake{Handshake: handshake}})
	stream.Send(&gatewayv1.PushEventsRequest{Payload: &gatewayv1.PushEventsRequest_Batch{Batch: batch}})
	ack := must(stream.CloseAndRecv()).GetAck()
	fmt.Println(ack.GetStatus(), ack.GetLastAcceptedSeq())
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
