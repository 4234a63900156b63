# Reference fits of random-effect variances that differ by group, by nlme (lme, pdBlocked).
# Rscript scripts/regenerate_reference_random_scale.R tests/data random_scale.json
suppressMessages({library(nlme); library(jsonlite)})
args <- commandArgs(trailingOnly = TRUE)
o <- read.csv(gzfile(file.path(args[1], "nlme_Orthodont.csv.gz")), stringsAsFactors = TRUE)
o$f <- as.numeric(o$Sex == "Female"); o$m <- 1 - o$f
o$fa <- o$f * (o$age - 11); o$ma <- o$m * (o$age - 11)
ctl <- lmeControl(opt = "optim", maxIter = 500, msMaxIter = 1000, tolerance = 1e-10, msTol = 1e-12)
intercepts <- pdDiag(~0 + f + m)
lines <- pdBlocked(list(pdSymm(~0 + f + fa), pdSymm(~0 + m + ma)))
out <- list()
keep <- function(name, random, weights, method) {
  fit <- lme(distance ~ age * Sex, data = o, random = list(Subject = random), weights = weights,
             method = method, control = ctl)
  G <- as.matrix(getVarCov(fit))
  class(G) <- NULL; attributes(G) <- list(dim = c(nrow(G), ncol(G)))
  out[[length(out) + 1]] <<- list(
    name = name, by_scale = !is.null(weights), method = method,
    minus2ll = -2 * as.numeric(logLik(fit)), beta = unname(fixef(fit)),
    se = unname(sqrt(diag(vcov(fit)))), G = G, sigma = fit$sigma)
}
for (method in c("ML", "REML")) for (by_scale in c(FALSE, TRUE)) {
  w <- if (by_scale) varIdent(form = ~1 | Sex) else NULL
  keep("intercepts", intercepts, w, method)
  keep("lines", lines, w, method)
}
write_json(list(nlme = as.character(packageVersion("nlme")), R = R.version.string, fits = out),
           args[2], digits = 12, pretty = TRUE, auto_unbox = TRUE, null = "null")
