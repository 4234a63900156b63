# Runs lme4 on one workload in a process of its own and reports events as JSON lines.
# usage: Rscript worker.R JOB.json EVENTS.jsonl
library(jsonlite)
arguments <- commandArgs(TRUE)
job <- fromJSON(arguments[1], simplifyVector = FALSE)
model <- job$model

send <- function(event, ...) {
  line <- toJSON(list(event = event, ...), auto_unbox = TRUE, digits = NA)
  cat(line, "\n", sep = "", file = arguments[2], append = TRUE)
}
status <- function(field) {
  lines <- readLines("/proc/self/status")
  hit <- grep(paste0("^", field, ":"), lines, value = TRUE)
  as.numeric(sub("[^0-9]*([0-9]+).*", "\\1", hit)) * 1024
}
forget_peak <- function() {
  cat("5", file = "/proc/self/clear_refs")
  status("VmRSS")
}
clock <- function() as.numeric(Sys.time())

read_table <- function(folder, ids) {
  header <- fromJSON(file.path(folder, "columns.json"), simplifyVector = FALSE)
  columns <- list()
  for (column in header$columns) {
    path <- file.path(folder, paste0(column$name, ".bin"))
    columns[[column$name]] <- if (column$type == "int32") {
      readBin(path, "integer", header$n_rows, size = 4, endian = "little")
    } else {
      readBin(path, "double", header$n_rows, size = 8, endian = "little")
    }
    # grouping columns are factors before the clock starts, as in a prepared R table
    if (column$name %in% ids) columns[[column$name]] <- factor(columns[[column$name]])
  }
  as.data.frame(columns)
}

import <- function() {
  start <- clock()
  suppressMessages(library(lme4))
  clock() - start
}
if (job$operation == "import") {
  send("fit", seconds = import(), warm_up = FALSE)
  quit(save = "no")
}
import_seconds <- import()
ids <- unique(unlist(lapply(model$terms, function(term) unlist(term$group))))
table <- read_table(job$data, ids)
control <- if (job$adapter == "lme4_noderivs") lmerControl(calc.derivs = FALSE) else lmerControl()
fit <- function(formula) {
  suppressWarnings(suppressMessages(
    lmer(as.formula(formula), table, REML = model$method == "reml", control = control)
  ))
}

timed <- function(call) {
  start <- clock()
  result <- call()
  list(seconds = clock() - start, result = result)
}
measure <- function(call) {
  run <- timed(call)
  is_long <- run$seconds > job$warm_limit
  send("fit", seconds = run$seconds, warm_up = !is_long)
  count <- if (is_long) 1 else 0
  spent <- if (is_long) run$seconds else 0
  while (count < 10 * job$repeats) {
    if ((count >= job$repeats && spent >= 0.5) || (count > 0 && spent >= job$budget)) break
    run <- NULL
    gc()
    run <- timed(call)
    send("fit", seconds = run$seconds, warm_up = FALSE)
    count <- count + 1
    spent <- spent + run$seconds
  }
  run$result
}

if (startsWith(job$operation, "first_fit")) {
  run <- timed(function() fit(model$formula))
  send("fit", seconds = import_seconds + run$seconds, warm_up = FALSE)
  result <- run$result
} else if (job$operation == "refit") {
  first <- fit(job$refit_from$formula)
  new <- table[[model$response]]
  result <- measure(function() suppressWarnings(suppressMessages(refit(first, new))))
} else {
  gc()
  resident <- forget_peak()
  send("loaded", resident = resident)
  result <- measure(function() fit(model$formula))
  send("memory", above_data = status("VmHWM") - resident)
}

blocks <- VarCorr(result)
block_of <- function(term) {
  wanted <- sort(unlist(term$group))
  for (name in names(blocks)) {
    if (identical(sort(strsplit(name, ":", fixed = TRUE)[[1]]), wanted)) {
      return(unname(matrix(as.numeric(blocks[[name]]), nrow(blocks[[name]]))))
    }
  }
  stop("no covariance for ", paste(wanted, collapse = ":"))
}
messages <- result@optinfo$conv$lme4$messages
send("estimates",
  beta = I(unname(fixef(result))), sigma2 = sigma(result)^2,
  G = lapply(model$terms, block_of), reported = -2 * as.numeric(logLik(result)),
  converged = is.null(messages), message = if (is.null(messages)) "" else paste(messages, collapse = "; ")
)
