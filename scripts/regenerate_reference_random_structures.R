# Reference fits of covariance structures of random effects by glmmTMB, with the data they are on.
# Rscript scripts/regenerate_reference_random_structures.R tests/data random_structures.json
suppressMessages({library(glmmTMB); library(jsonlite)})
args <- commandArgs(trailingOnly = TRUE)
folder <- args[1]
set.seed(20261123)
n_id <- 40; visits <- 5; clock <- c(0, 1, 2.5, 3, 5)
d <- expand.grid(rep = 1:2, visit = 1:visits, id = 1:n_id)
C <- 0.6^abs(outer(1:visits, 1:visits, "-"))
sd <- c(1, 1.1, 1.3, 1.2, 1.5)
b <- matrix(rnorm(n_id * visits), n_id) %*% chol(diag(sd) %*% C %*% diag(sd))
d$x <- round(rnorm(nrow(d)), 3)
d$y <- round(2 + 0.3 * d$visit + 0.5 * d$x + b[cbind(d$id, d$visit)] + rnorm(nrow(d), sd = 0.8), 3)
d$count <- rpois(nrow(d), exp(0.2 + 0.2 * d$x + 0.6 * b[cbind(d$id, d$visit)]))
d$site <- (d$id * 7 + d$visit * 3) %% 8 + 1
d <- d[runif(nrow(d)) > 0.2, ]
d$time <- clock[d$visit]
d$f <- factor(d$visit); d$num <- numFactor(d$time); d$g <- factor(d$id); d$s <- factor(d$site)
control <- glmmTMBControl(optCtrl = list(iter.max = 2000, eval.max = 2000, rel.tol = 1e-13))
out <- list()
keep <- function(ours, theirs, method = "ML", family = gaussian()) {
  fit <- glmmTMB(as.formula(theirs), d, REML = method == "REML", family = family, control = control)
  V <- VarCorr(fit)$cond
  G <- if ("g" %in% names(V)) V[["g"]] else V[[1]]
  out[[length(out) + 1]] <<- list(
    formula = ours, glmmTMB = theirs, method = method, family = family$family,
    minus2ll = -2 * as.numeric(logLik(fit)), beta = unname(fixef(fit)$cond),
    sd = unname(attr(G, "stddev")), correlation = unname(as.matrix(attr(G, "correlation"))),
    sigma = if (family$family == "gaussian") sigma(fit) else NULL,
    convergence = fit$fit$convergence)
}
pairs <- list(
  c("ar1(0 + visit | id)", "ar1(0 + f | g)"),
  c("toeph(0 + visit | id)", "toep(0 + f | g)"),
  c("csh(0 + C(visit) | id)", "cs(0 + f | g)"),
  c("diag(0 + C(visit) | id)", "diag(0 + f | g)"),
  c("us(0 + C(visit) | id)", "us(0 + f | g)"),
  c("car1(0 + time | id)", "ou(0 + num | g)"),
  c("exp(0 + time | id)", "exp(0 + num | g)"),
  c("gau(0 + time | id)", "gau(0 + num | g)"),
  c("rr(0 + C(visit) | id, rank=2)", "rr(0 + f | g, d = 2)"),
  c("(1 | site) + ar1(0 + visit | id)", "(1 | s) + ar1(0 + f | g)"))
for (method in c("ML", "REML")) for (p in pairs)
  keep(paste("y ~ x + visit +", p[1]), paste("y ~ x + visit +", p[2]), method)
for (p in pairs[c(1, 2, 6, 10)])
  keep(paste("count ~ x +", p[1]), paste("count ~ x +", p[2]), "ML", poisson())
write_json(list(
  provenance = paste("glmmTMB", packageVersion("glmmTMB"), R.version.string,
                     "scripts/regenerate_reference_random_structures.R; data simulated there"),
  data = d[, c("y", "count", "x", "visit", "time", "id", "site")], fits = out),
  file.path(folder, args[2]), digits = 12, auto_unbox = TRUE, dataframe = "columns")
