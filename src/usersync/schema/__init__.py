"""Installing usersync into an application's database: inspection, proposal, trial, installation, removal."""
