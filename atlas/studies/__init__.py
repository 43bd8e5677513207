"""How every study runs: settings, forecast, inputs, tasks, results and floors."""
