"""What a user deploys: collector, Jaeger, Prometheus and Grafana, wired for agents."""
