// Push-event pushes an agent's first event to a gateway and prints what became of it: the status and the mark.
//
//	push-event 127.0.0.1:9090 my-agent
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	pb "arcgate.dev/api/gen/go/gateway/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	conn := must(grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials())))
	stream := must(pb.NewGatewayServiceClient(conn).PushEvents(context.Background()))
	event := &pb.Event{EventId: "hello", EventType: "example.hello", Meta: &pb.Meta{AgentId: os.Args[2], Seq: 1}}
	batch := &pb.PushEventsRequest_Batch{Batch: &pb.EventBatch{Events: []*pb.Event{event}}}
	stream.Send(&pb.PushEventsRequest{Payload: batch}) // What goes wrong here, CloseAndRecv tells.
	ack := must(stream.CloseAndRecv()).GetAck()
	fmt.Println(ack.GetStatus(), ack.GetLastAcceptedSeq())
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
