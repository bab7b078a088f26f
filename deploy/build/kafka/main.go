// A Kafka broker in one process, for trying the gateway tier on one machine.
// It keeps nothing on disk: never run it for anything but trials and tests.
package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	port := 9092
	cluster, err := kfake.NewCluster(kfake.Ports(port), kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(8))
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	log.Printf("broker on %v", cluster.ListenAddrs())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
