// A Kafka broker in one process and in memory, for trying the gateway tier on one machine.
// It keeps nothing on disk: it is for trials and tests alone.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	port := flag.Int("port", 9092, "port on loopback")
	partitions := flag.Int("partitions", 8, "partitions of a new topic")
	flag.Parse()

	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(*port),
		kfake.AllowAutoTopicCreation(),
		kfake.DefaultNumPartitions(*partitions),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	log.Printf("listening on %v", cluster.ListenAddrs())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
