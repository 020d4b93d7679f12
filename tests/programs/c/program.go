// Goroutines, channels, a panic that is caught, signals, a child process.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"sync"
	"syscall"
)

func square(in <-chan int, out chan<- int, group *sync.WaitGroup) {
	defer group.Done()
	for n := range in {
		out <- n * n
	}
}

func caught() (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	var nowhere *int
	return fmt.Sprint(*nowhere)
}

func main() {
	in, out := make(chan int), make(chan int, 1000)
	var group sync.WaitGroup
	for i := 0; i < 4; i++ {
		group.Add(1)
		go square(in, out, &group)
	}
	for n := 0; n < 500; n++ {
		in <- n
	}
	close(in)
	group.Wait()
	close(out)
	var all []int
	for n := range out {
		all = append(all, n)
	}
	sort.Ints(all)
	fmt.Println(len(all), all[499], os.Args[1:])
	fmt.Println(caught())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-signals)
	text, err := exec.Command("echo", "child").Output()
	fmt.Printf("%s%v\n", text, err)
	os.Exit(3)
}
