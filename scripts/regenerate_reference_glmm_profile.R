# Reference inference for generalized mixed models by lme4: profile intervals, tests of terms,
# likelihood-ratio tests.
#
# Usage: Rscript scripts/regenerate_reference_glmm_profile.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds <name>.csv.gz (in this repository: tests/data).
#
# tests/data/glmm_profile.json was made with R 4.2.2, lme4 1.1-31 and glmmTMB 1.1.5. Profiles of
# glmer interpolate a spline through about ten points: good to about 1e-3 of a standard error.
# glmmTMB's (method = "uniroot") solve for each limit, its tolerance is about 1e-4.

suppressMessages({library(lme4); library(glmmTMB); library(jsonlite)})
arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)

d <- read.csv(file.path(arguments[1], "cbpp.csv.gz"))
for (v in c("herd", "period")) d[[v]] <- factor(d[[v]])
m <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), d, family = binomial,
           control = glmerControl(tolPwrss = 1e-12, optimizer = "bobyqa",
                                  optCtrl = list(rhoend = 1e-9)))
p <- confint(m, method = "profile", quiet = TRUE)
profiles <- lapply(rownames(p), function(r) list(term = r, low = p[r, 1], high = p[r, 2]))

g <- read.csv(file.path(arguments[1], "grouseticks.csv.gz"))
for (v in c("BROOD", "YEAR")) g[[v]] <- factor(g[[v]])
g$cHEIGHT <- (g$HEIGHT - mean(g$HEIGHT)) / 100
nb <- glmmTMB(TICKS ~ YEAR + cHEIGHT + (1 | BROOD), g, family = nbinom2)
po <- glmmTMB(TICKS ~ YEAR + cHEIGHT + (1 | BROOD), g, family = poisson)
u <- confint(nb, method = "uniroot", parm = 1:4)
uniroot <- lapply(seq_len(nrow(u)), function(i) list(term = rownames(u)[i], low = u[i, 1],
                                                     high = u[i, 2]))
out <- list(
  list(data = "cbpp", formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)",
       family = "binomial", program = "lme4", profile = profiles),
  list(data = "grouseticks", formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD)",
       family = "nbinom2", program = "glmmTMB", profile = uniroot,
       minus2ll = -2 * as.numeric(logLik(nb)), minus2ll_poisson = -2 * as.numeric(logLik(po)))
)
write(toJSON(out, auto_unbox = TRUE, digits = 10, pretty = TRUE), arguments[2])
